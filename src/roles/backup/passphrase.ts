import { commonFailure } from '#lib/errors.ts'

/** Asks on the terminal without showing what is typed. @throws CANCELLED on Ctrl-C or Ctrl-D */
export async function askPassphrase(): Promise<string> {
  const { stdin, stderr } = process
  stderr.write('recovery passphrase / frase de recuperación: ')
  stdin.setRawMode(true)
  stdin.setEncoding('utf8')
  stdin.resume()
  try {
    return await readLine(stdin)
  } finally {
    stdin.setRawMode(false)
    stdin.pause()
    stderr.write('\n')
  }
}

const longest = 1024

function readLine(input: NodeJS.ReadStream): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>()
  let line = ''
  const onData = (chunk: string) => {
    for (const character of chunk) {
      if (character === '\r' || character === '\n') return done(() => resolve(line))
      if (character === '\u0003' || character === '\u0004')
        return done(() => reject(commonFailure('CANCELLED')))
      if (character === '\u007f' || character === '\b') line = line.slice(0, -1)
      else if (line.length < longest) line += character
    }
  }
  const done = (settle: () => void) => {
    input.off('data', onData)
    settle()
  }
  input.on('data', onData)
  return promise
}
