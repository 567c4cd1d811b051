import { defineErrors } from '#lib/errors.ts'

export const { rows, failure: httpError } = defineErrors({
  HTTP_PORT_IN_USE: {
    status: 500,
    exit: 1,
    retry: true,
    title: 'The HTTP port is taken',
    message: 'Port {port} on {host} is taken by another program.',
    hint: 'Choose another one: PORT={suggestion} npm start',
  },
  HTTP_CANNOT_LISTEN: {
    status: 500,
    exit: 1,
    retry: false,
    title: 'Cannot listen for HTTP',
    message: 'Cannot listen on {host} port {port} ({reason}).',
    hint: 'HOST must be an address of this machine; ports below 1024 need privilege.',
  },
  HTTP_TRUSTED_PROXIES_INVALID: {
    status: 500,
    exit: 2,
    retry: false,
    title: 'TRUSTED_PROXIES is not valid',
    message: 'http.trustedProxies holds {given}, which is not a list of addresses or CIDR ranges.',
    hint: 'Give it as 10.0.0.0/8,192.0.2.7',
  },
  HEADERS_TOO_LARGE: {
    status: 431,
    exit: 1,
    retry: false,
    title: 'The headers are too large',
    message: 'The request line and headers are larger than 16 KiB.',
  },
  EXPECTATION_FAILED: {
    status: 417,
    exit: 1,
    retry: false,
    title: 'This expectation is not met',
    message: 'Expect takes only 100-continue.',
  },
})
