#!/usr/bin/env node
// Runs the program on its own Node, whatever Node the shell happens to have.
import { spawn } from 'node:child_process'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { ensure, Unready } from '../tools/ensure.mjs'

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)))

function node() {
  try {
    return ensure({ root, say: line => process.stderr.write(`${line}\n`) })
  } catch (error) {
    if (!(error instanceof Unready)) throw error
    process.stderr.write(`error: ${error.message}\nhint: ${error.hint}\n`)
    process.exit(1)
  }
}

const command = [node(), path.join(root, 'src', 'main.ts'), ...process.argv.slice(2)]

// Becoming the program leaves nobody between it and its signals; Node knows how since 22.15.
if (process.execve) process.execve(command[0], command, process.env)
else runAsChild()

function runAsChild() {
  const child = spawn(command[0], command.slice(1), { stdio: 'inherit' })
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
    process.on(signal, () => {
      // Ctrl-C of a terminal reaches the whole group, the child included.
      if (signal !== 'SIGINT' || !process.stdin.isTTY) child.kill(signal)
    })
  }
  child.on('error', error => {
    process.stderr.write(`error: ${command[0]} does not start: ${error.message}\n`)
    process.exit(1)
  })
  child.on('exit', (code, signal) =>
    process.exit(code ?? 128 + (signal === 'SIGINT' ? 2 : signal === 'SIGTERM' ? 15 : 9)),
  )
}
