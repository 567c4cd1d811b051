/** A path as manifests and archives carry it: any bytes a file name may have. What is no UTF-8 is read as Latin-1. */
export function decodePath(bytes: Buffer): string {
  const text = bytes.toString('utf8')
  return text.includes('\ufffd') ? bytes.toString('latin1') : text
}
