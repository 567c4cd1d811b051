import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { programRoot } from './program.ts'

const parts = ['package.json', 'package-lock.json', 'bin', 'migrations', 'src', 'tools']

/**
 * Copies the program as it is now, with the packages that it runs on, as if somebody had cloned and installed it there.
 * Nothing is fetched.
 */
export function cloneProgram(directory: string): void {
  mkdirSync(directory, { recursive: true })
  for (const part of parts) cpSync(join(programRoot, part), join(directory, part), { recursive: true })
  const lock = JSON.parse(readFileSync(join(programRoot, 'node_modules', '.package-lock.json'), 'utf8')) as {
    packages: Record<string, { dev?: boolean }>
  }
  const packages = Object.entries(lock.packages).filter(([, entry]) => !entry.dev)
  for (const [path] of packages) {
    const filter = (source: string) => {
      // Headers of Node, for compiling, are as large as half of the rest; nested packages have their own entry.
      return basename(source) !== 'include' && !source.endsWith(join(path, 'node_modules'))
    }
    cpSync(join(programRoot, path), join(directory, path), {
      recursive: true,
      verbatimSymlinks: true,
      filter,
    })
  }
  const node = join('node_modules', '.bin', 'node')
  mkdirSync(join(directory, 'node_modules', '.bin'))
  if (existsSync(join(programRoot, node)))
    cpSync(join(programRoot, node), join(directory, node), { verbatimSymlinks: true })
  const kept = { ...lock, packages: Object.fromEntries(packages) }
  writeFileSync(join(directory, 'node_modules', '.package-lock.json'), JSON.stringify(kept))
}
