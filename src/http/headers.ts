/**
 * Security headers as one ready object, set once per request: a plugin that works them out each time costs more than
 * the rest of a small route. Pages that need more (style, scripts, images) override content-security-policy themselves.
 */
export function securityHeaders(options: { publicUrl?: string }): Record<string, string> {
  return {
    // An API answer is never a document: should one be opened as such, nothing in it may run, load or be framed.
    'content-security-policy':
      "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    'x-content-type-options': 'nosniff',
    'referrer-policy': 'no-referrer',
    'cross-origin-opener-policy': 'same-origin',
    'cross-origin-resource-policy': 'same-origin',
    // Balances and tokens must not stay in a shared cache; a route with public content says otherwise.
    'cache-control': 'no-store',
    ...(options.publicUrl?.startsWith('https:') ? { 'strict-transport-security': 'max-age=31536000' } : {}),
  }
}

/** The policy of a server-rendered page without scripts; `styleHash` is the CSP hash of its one style element. */
export function pageSecurityPolicy(styleHash: string): string {
  return `default-src 'none'; style-src '${styleHash}'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'`
}
