import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import fc from 'fast-check'
import { Failure } from '#lib/errors.ts'
import { type BaseBackupSink, type OpenOptions, ReplicationConnection, type WalSink } from './connection.ts'
import { cut, type FakeClient, fakeServer, message, readStatus } from './testing.ts'

async function connect(
  t: TestContext,
  script: (client: FakeClient) => Promise<void>,
  options: OpenOptions & { greeting?: Buffer } = {},
): Promise<ReplicationConnection> {
  const server = await fakeServer(script, options.greeting)
  const connection = await ReplicationConnection.open(server.config, options)
  t.after(async () => {
    connection.destroy()
    await server.close()
  })
  return connection
}

/** Answers the first command, then reads on. */
const answers =
  (...messages: Buffer[]) =>
  async (client: FakeClient) => {
    await client.command()
    client.send(...messages)
  }

function failsWith(code: string, words?: RegExp) {
  return (error: unknown) => {
    assert(error instanceof Failure, String(error))
    assert.equal(error.code, code)
    if (words) assert.match(error.message, words)
    return true
  }
}

/** Writes down what it is told; data of one archive joined. */
function backupDiary(): BaseBackupSink & { lines: string[] } {
  const lines: string[] = []
  const data = (kind: string, bytes: Buffer) => {
    const last = lines.at(-1)
    if (last?.startsWith(kind)) lines[lines.length - 1] = last + bytes.toString('hex')
    else lines.push(`${kind} ${bytes.toString('hex')}`)
  }
  return {
    lines,
    begin: facts =>
      void lines.push(`begin ${facts.lsn} ${facts.timeline} ${JSON.stringify(facts.tablespaces)}`),
    archive: (name, path) => void lines.push(`archive ${name} ${path}`),
    data: bytes => data('data', bytes),
    manifest: () => void lines.push('manifest'),
    manifestData: bytes => data('described', bytes),
    progress: bytes => void lines.push(`progress ${bytes}`),
  }
}

const identity = message.table(['7711677056603304589', '3', '0/5B000028', null])
const identified = { systemIdentifier: '7711677056603304589', timeline: 3, flushLsn: 0x5b000028n }

describe('a replication connection', () => {
  test('keeps a system identifier beyond 2^53 whole', async t => {
    const connection = await connect(t, answers(identity, message.ready()))
    assert.deepEqual(await connection.identifySystem(), identified)
    assert.equal(connection.serverVersion, 180004)
  })

  test('is not confused by what comes in the same packet as the end of the login', async t => {
    const rest = Buffer.concat([message.parameter('a', 'b'), message.notice('early').subarray(0, 7)])
    const script = async (client: FakeClient) => {
      await client.command()
      client.send(message.notice('early').subarray(7), identity, message.ready())
    }
    const notices: string[] = []
    const onNotice = ({ message: text }: { message: string }) => void notices.push(text)
    const connection = await connect(t, script, { greeting: rest, onNotice })
    assert.deepEqual(await connection.identifySystem(), identified)
    assert.deepEqual(notices, ['early'])
  })

  test('goes on after the server refused a command', async t => {
    const connection = await connect(t, async client => {
      await client.command()
      client.send(message.error('42704', 'replication slot "s" does not exist'), message.ready())
      await client.command()
      client.send(identity, message.ready())
    })
    await assert.rejects(connection.dropSlot('s'), failsWith('WIRE_SLOT_MISSING', /"s" does not exist/))
    assert.deepEqual(await connection.identifySystem(), identified)
  })

  test('quotes names and labels so that they end where they should', async t => {
    const seen: string[] = []
    const connection = await connect(t, async client => {
      for (;;) {
        seen.push(await client.command())
        client.send(message.error('42601', 'no'), message.ready())
      }
    })
    await assert.rejects(connection.dropSlot('a"b'))
    await assert.rejects(connection.baseBackup({ label: "it's" }, backupDiary()))
    assert.equal(seen[0], 'DROP_REPLICATION_SLOT "a""b"')
    assert.match(seen[1] ?? '', /^BASE_BACKUP \(LABEL 'it''s', /)
    await assert.rejects(connection.baseBackup({ label: 'two\nlines' }, backupDiary()), TypeError)
    await assert.rejects(connection.show('x; DROP'), TypeError)
  })

  const broken: Array<[what: string, answer: Buffer[], code: string, words: RegExp]> = [
    [
      'an unknown message',
      [message.make('!')],
      'WIRE_PROTOCOL',
      /IDENTIFY_SYSTEM is not understood.*type 33/,
    ],
    ['a row before its description', [message.row('x')], 'WIRE_PROTOCOL', /row without a description/],
    [
      'a row cut short',
      [message.description(), message.make('D', Buffer.from([0, 1, 0]))],
      'WIRE_PROTOCOL',
      /ends early/,
    ],
    [
      'a column that is too long',
      [message.description(), message.make('D', Buffer.from([0, 1, 0, 0, 0, 9]))],
      'WIRE_PROTOCOL',
      /longer than its row/,
    ],
    ['an answer without rows', [message.ready()], 'WIRE_PROTOCOL', /without an identifier/],
    ['copy data', [message.copyData(Buffer.from('d'))], 'WIRE_PROTOCOL', /nobody asked/],
    ['words without an end', [message.make('E', Buffer.from('Mnever'))], 'WIRE_PROTOCOL', /without an end/],
    [
      'FATAL',
      [message.words('E', 'FATAL', '57P01', 'terminating connection')],
      'WIRE_BROKEN',
      /terminating connection/,
    ],
    ['nothing but the end', [], 'WIRE_BROKEN', /the server ended it/],
  ]
  for (const [what, answer, code, words] of broken) {
    test(`says so when the answer is ${what}`, async t => {
      const connection = await connect(t, async client => {
        await client.command()
        client.socket.end(Buffer.concat(answer))
      })
      await assert.rejects(connection.identifySystem(), failsWith(code, words))
    })
  }

  test('refuses a second command while one is running, and any after its end', async t => {
    const connection = await connect(t, async () => {})
    const first = connection.identifySystem()
    await assert.rejects(connection.identifySystem(), /IDENTIFY_SYSTEM is still running/)
    connection.destroy()
    await assert.rejects(first, failsWith('WIRE_ABORTED', /during IDENTIFY_SYSTEM/))
    await assert.rejects(connection.identifySystem(), failsWith('WIRE_BROKEN'))
    assert.equal(connection.usable, false)
  })

  test('is called off by its signal, in the login too', async t => {
    const abort = new AbortController()
    const connection = await connect(t, async () => {}, { signal: abort.signal })
    const running = connection.identifySystem()
    abort.abort()
    await assert.rejects(running, failsWith('WIRE_ABORTED'))
    const refused = ReplicationConnection.open({ host: '127.0.0.1', port: 1 }, { signal: abort.signal })
    await assert.rejects(refused, failsWith('WIRE_ABORTED', /login/))
  })

  test('closes within its time although the server does not', async t => {
    const connection = await connect(t, async client => {
      client.socket.removeAllListeners('end')
      client.socket.allowHalfOpen = true
    })
    const begun = performance.now()
    await connection.close()
    assert(performance.now() - begun < 5_000)
    await connection.close()
  })

  test('says where nobody listens', async () => {
    const opened = ReplicationConnection.open({ host: '127.0.0.1', port: 1, user: 'x' })
    await assert.rejects(opened, failsWith('WIRE_UNREACHABLE', /127\.0\.0\.1:1: .*ECONNREFUSED/))
  })
})

const start = message.table(['0/2000028', '1'])
const tablespaces = message.table(['16385', '/srv/fast', '12'], [null, null, null])
const wholeBackup = [
  start,
  tablespaces,
  message.copyOut(),
  message.archive('16385.tar', '/srv/fast'),
  message.data(Buffer.from('one')),
  message.progress(3n),
  message.archive('base.tar'),
  message.data(Buffer.from('two')),
  message.data(Buffer.alloc(0)),
  message.data(Buffer.alloc(300, 7)),
  message.progress(306n),
  message.manifest(),
  message.data(Buffer.from('{}')),
  message.copyDone(),
  message.table(['0/2000100', '1']),
  message.complete('BASE_BACKUP'),
  message.ready(),
]
const wholeDiary = [
  'begin 33554472 1 [{"oid":"16385","path":"/srv/fast","kilobytes":12},{}]',
  'archive 16385.tar /srv/fast',
  `data ${Buffer.from('one').toString('hex')}`,
  'progress 3',
  'archive base.tar ',
  `data ${Buffer.concat([Buffer.from('two'), Buffer.alloc(300, 7)]).toString('hex')}`,
  'progress 306',
  'manifest',
  'described 7b7d',
]

describe('a base backup', () => {
  test('comes out the same wherever its bytes are cut, with notices anywhere between', async () => {
    const places = fc.array(fc.nat({ max: 2_000 }), { maxLength: 12 })
    const noticesAt = fc.array(fc.nat({ max: wholeBackup.length - 1 }), { maxLength: 4 })
    await fc.assert(
      fc.asyncProperty(places, noticesAt, async (cuts, notices) => {
        const noise = Buffer.concat([message.notice('hm'), message.parameter('a', 'b')])
        const answer = wholeBackup.map((one, at) =>
          notices.includes(at) ? Buffer.concat([noise, one]) : one,
        )
        const script = async (client: FakeClient) => {
          await client.command()
          for (const piece of cut(Buffer.concat(answer), cuts))
            await new Promise<void>(resolve => client.socket.write(piece, () => setImmediate(resolve)))
        }
        const server = await fakeServer(script)
        const connection = await ReplicationConnection.open(server.config)
        const diary = backupDiary()
        const result = await connection.baseBackup({ label: 'l' }, diary)
        assert.deepEqual(diary.lines, wholeDiary)
        assert.deepEqual(result, {
          start: { lsn: 0x2000028n, timeline: 1 },
          end: { lsn: 0x2000100n, timeline: 1 },
        })
        connection.destroy()
        await server.close()
      }),
      { numRuns: 40 },
    )
  })

  test('is none when the server refuses at the very end', async t => {
    const words = 'checksum verification failure during base backup'
    const warning = message.notice('checksum verification failed in file "base/1/2", block 3')
    const answer = [...wholeBackup.slice(0, -3), warning, message.error('XX001', words), message.ready()]
    const connection = await connect(t, answers(...answer))
    const backup = connection.baseBackup({ label: 'l' }, backupDiary())
    await assert.rejects(backup, failsWith('WIRE_PAGES_DAMAGED', /base\/1\/2", block 3/))
    assert.equal(connection.usable, true)
  })

  test('is none when the server refuses in the middle', async t => {
    const answer = [...wholeBackup.slice(0, 6), message.error('58030', 'could not read'), message.ready()]
    const connection = await connect(t, answers(...answer))
    const backup = connection.baseBackup({ label: 'l' }, backupDiary())
    await assert.rejects(backup, failsWith('WIRE_REFUSED', /BASE_BACKUP: could not read \(SQLSTATE 58030\)/))
  })

  // Not of data and progress, and not of a second archive's name: whoever reads the archives sees those.
  const lacking = [...wholeBackup.keys()].filter(index => ![4, 5, 6, 7, 8, 9, 10, 12, 15, 16].includes(index))
  for (const index of lacking) {
    test(`is none when message ${index} is missing from its answer`, async t => {
      const connection = await connect(t, async client => {
        await client.command()
        client.socket.end(Buffer.concat(wholeBackup.toSpliced(index, 1)))
      })
      const backup = connection.baseBackup({ label: 'l' }, backupDiary())
      await assert.rejects(backup, failsWith('WIRE_PROTOCOL'))
    })
  }

  test('fails with what its sink threw, and the connection with it', async t => {
    const full = new Error('disk full')
    for (const data of [() => assert.fail(full), () => Promise.reject(full)]) {
      const connection = await connect(t, answers(...wholeBackup))
      const backup = connection.baseBackup({ label: 'l' }, { ...backupDiary(), data })
      await assert.rejects(backup, full)
      assert.equal(connection.usable, false)
    }
  })

  test('reads nothing more while its sink is busy', async t => {
    let free = () => {}
    let calls = 0
    const connection = await connect(t, answers(...wholeBackup))
    const data = () => {
      calls++
      return new Promise<void>(resolve => {
        free = resolve
      })
    }
    const backup = connection.baseBackup({ label: 'l' }, { ...backupDiary(), data })
    while (calls === 0) await new Promise(resolve => setImmediate(resolve))
    await new Promise(resolve => setTimeout(resolve, 20))
    assert.equal(calls, 1)
    const freeing = setInterval(() => free(), 1)
    await backup
    clearInterval(freeing)
    assert.equal(calls, 3)
  })
})

const streamed = { start: 0x3000000n, timeline: 1 }

function walDiary(): WalSink & { lines: string[]; bytes: Buffer[] } {
  const lines: string[] = []
  const bytes: Buffer[] = []
  return {
    lines,
    bytes,
    data: (from, piece, serverEnd) => {
      lines.push(`data ${from} ${piece.length} ${serverEnd}`)
      bytes.push(Buffer.from(piece))
    },
    keepalive: (serverEnd, replyNow) => void lines.push(`alive ${serverEnd} ${replyNow}`),
    turn: () => void lines.push('turn'),
  }
}

const nextTimeline = [message.table(['2', '0/3000100']), message.complete('START_STREAMING'), message.ready()]

describe('a WAL stream', () => {
  test('comes out the same wherever its bytes are cut', async () => {
    const content = Buffer.from(Array.from({ length: 256 }, (_, index) => index))
    const answer = Buffer.concat([
      message.wal(0x3000000n, 0x3000200n, content.subarray(0, 100)),
      message.keepalive(0x3000200n, false),
      message.notice('hm'),
      message.wal(0x3000064n, 0x3000300n, content.subarray(100)),
      message.copyDone(),
    ])
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat({ max: 500 }), { maxLength: 12 }), async cuts => {
        const script = async (client: FakeClient) => {
          await client.command()
          client.send(message.copyBoth())
          for (const piece of cut(answer, cuts))
            await new Promise<void>(resolve => client.socket.write(piece, () => setImmediate(resolve)))
          await client.next('c')
          client.send(...nextTimeline)
        }
        const server = await fakeServer(script)
        const connection = await ReplicationConnection.open(server.config)
        const diary = walDiary()
        const stream = await connection.streamWal(streamed, diary)
        assert.deepEqual(await stream.ended, { nextTimeline: 2, switchLsn: 0x3000100n })
        assert.deepEqual(Buffer.concat(diary.bytes), content)
        assert(diary.lines.includes(`alive ${0x3000200n} false`))
        assert.equal(diary.lines.at(-1), 'turn')
        connection.destroy()
        await server.close()
      }),
      { numRuns: 40 },
    )
  })

  test('tells the server what was confirmed, and repeats it when the server asks', async t => {
    const seen: ReturnType<typeof readStatus>[] = []
    const connection = await connect(t, async client => {
      assert.match(await client.command(), /^START_REPLICATION SLOT "s" PHYSICAL 0\/3000000 TIMELINE 1$/)
      client.send(message.copyBoth())
      seen.push(readStatus(await client.next('d')))
      client.send(message.keepalive(0x3000300n, true))
      seen.push(readStatus(await client.next('d')))
      await client.next('c')
      client.send(message.copyDone(), message.complete('COPY 0'), message.complete(), message.ready())
    })
    const stream = await connection.streamWal({ ...streamed, slot: 's' }, walDiary())
    stream.confirm({ write: 0x3000200n, flush: 0x3000100n }, true)
    while (seen.length < 2) await new Promise(resolve => setImmediate(resolve))
    await stream.stop()
    assert.equal(await stream.ended, 'stopped')
    const [first, second] = seen
    assert(Math.abs((first?.atMs ?? 0) - Date.now()) < 60_000)
    const told = { write: 0x3000200n, flush: 0x3000100n, apply: 0n }
    assert.deepEqual(
      seen.map(({ atMs, ...one }) => one),
      [
        { ...told, replyNow: true },
        { ...told, replyNow: false },
      ],
    )
    assert(second)
    // After the end nothing is sent.
    stream.confirm({ write: 1n, flush: 1n })
  })

  test('repeats its position while the sink is busy, so that the server does not give it up', async t => {
    let repeated = 0
    const connection = await connect(t, async client => {
      await client.command()
      client.send(message.copyBoth(), message.wal(0x3000000n, 0x3000200n, Buffer.alloc(8)))
      for (;;) {
        await client.next('d')
        repeated++
      }
    })
    const busy = { ...walDiary(), data: () => new Promise<void>(() => {}) }
    await connection.streamWal(streamed, busy)
    while (repeated < 2) await new Promise(resolve => setTimeout(resolve, 20))
  })

  test('gives up a server that does not even answer questions', async t => {
    let asked = false
    const connection = await connect(t, async client => {
      await client.command()
      client.send(message.copyBoth())
      for (;;) if (readStatus(await client.next('d')).replyNow) asked = true
    })
    const stream = await connection.streamWal({ ...streamed, serverSilenceMs: 1_500 }, walDiary())
    await assert.rejects(stream.ended, failsWith('WIRE_SILENT'))
    assert(asked)
  })

  test('that begins at the end of an old timeline has ended when it begins', async t => {
    const connection = await connect(t, answers(...nextTimeline))
    const stream = await connection.streamWal(streamed, walDiary())
    assert.deepEqual(await stream.ended, { nextTimeline: 2, switchLsn: 0x3000100n })
  })

  const refusals: Array<[sqlState: string, words: string, code: string]> = [
    ['58P01', 'requested WAL segment 000000010000000000000003 has already been removed', 'WIRE_WAL_REMOVED'],
    ['55006', 'replication slot "s" is active for PID 7', 'WIRE_SLOT_IN_USE'],
    ['55000', 'can no longer access replication slot "s"', 'WIRE_SLOT_LOST'],
    ['42704', 'replication slot "s" does not exist', 'WIRE_SLOT_MISSING'],
    ['XX000', 'something else', 'WIRE_REFUSED'],
  ]
  for (const [sqlState, words, code] of refusals) {
    test(`says ${code} before it begins and in its middle`, async t => {
      const refusal = [message.error(sqlState, words), message.ready()]
      const before = await connect(t, answers(...refusal))
      await assert.rejects(before.streamWal(streamed, walDiary()), failsWith(code))
      const within = await connect(t, answers(message.copyBoth(), ...refusal))
      const stream = await within.streamWal(streamed, walDiary())
      await assert.rejects(stream.ended, failsWith(code))
    })
  }

  const malformed: Array<[what: string, bytes: Buffer, words: RegExp]> = [
    ['a gap', message.wal(0x3000008n, 0x3000200n, Buffer.alloc(8)), /0\/3000008 where 0\/3000000 was next/],
    ['a message of another kind', message.copyData(Buffer.from('zzz')), /kind 122/],
    ['a header that is too short', message.copyData(Buffer.from('w123')), /ends in its header/],
    ['an empty message', message.copyData(Buffer.alloc(0)), /ends in its header/],
    ['a keepalive that is too long', message.copyData(Buffer.alloc(19, 'k')), /too long/],
    ['an end without what is next', Buffer.concat([message.copyDone(), message.ready()]), /next timeline/],
  ]
  for (const [what, bytes, words] of malformed) {
    test(`refuses ${what}`, async t => {
      const connection = await connect(t, answers(message.copyBoth(), bytes))
      const stream = await connection.streamWal(streamed, walDiary())
      await assert.rejects(stream.ended, failsWith('WIRE_PROTOCOL', words))
    })
  }

  test('breaks with its connection, and with what its sink threw', async t => {
    const gone = await connect(t, async client => {
      await client.command()
      client.socket.end(message.copyBoth())
    })
    const stream = await gone.streamWal(streamed, walDiary())
    await assert.rejects(stream.ended, failsWith('WIRE_BROKEN', /START_REPLICATION/))
    const full = new Error('disk full')
    const wal = message.wal(0x3000000n, 0x3000200n, Buffer.alloc(8))
    const connection = await connect(t, answers(message.copyBoth(), wal))
    const failing = await connection.streamWal(streamed, { ...walDiary(), turn: () => Promise.reject(full) })
    await assert.rejects(failing.ended, full)
  })

  test('is stopped by close, and destroyed when the server does not take that', async t => {
    const connection = await connect(t, answers(message.copyBoth()))
    const stream = await connection.streamWal(streamed, walDiary())
    const begun = performance.now()
    await connection.close()
    assert.equal(await stream.ended, 'stopped')
    assert(performance.now() - begun < 9_000)
  })
})
