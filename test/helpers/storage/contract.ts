import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { before, describe, test } from 'node:test'
import { Failure } from '#lib/errors.ts'
import type { Storage } from '#storage/storage.ts'

export function hasCode(code: string): (error: unknown) => boolean {
  return error => error instanceof Failure && error.code === code
}

export async function keysOf(storage: Storage, prefix: string, after?: string): Promise<string[]> {
  const keys: string[] = []
  for await (const { key } of storage.list(prefix, after === undefined ? {} : { after })) keys.push(key)
  return keys
}

/** What every storage promises. `open` gives an empty one; it is called once. */
export function storageContract(name: string, open: () => Promise<Storage>): void {
  describe(name, () => {
    let storage: Storage
    before(async () => {
      storage = await open()
    })

    test('what was put in parts is got as one, and its size is told', async () => {
      await storage.put('whole/parts', [Buffer.from('one,'), Buffer.alloc(0), Buffer.from('two')])
      assert.equal((await storage.get('whole/parts')).toString(), 'one,two')
      assert.deepEqual(await storage.head('whole/parts'), { key: 'whole/parts', bytes: 7 })
    })

    test('an object may be empty', async () => {
      await storage.put('whole/empty', [])
      assert.equal((await storage.get('whole/empty')).byteLength, 0)
      assert.equal((await storage.head('whole/empty'))?.bytes, 0)
      assert.deepEqual(await keysOf(storage, 'whole/e'), ['whole/empty'])
    })

    test('put replaces what was there', async () => {
      await storage.put('whole/twice', [Buffer.from('a much longer first one')])
      await storage.put('whole/twice', [Buffer.from('second')])
      assert.equal((await storage.get('whole/twice')).toString(), 'second')
    })

    test('putNew writes once and leaves what is there as it was', async () => {
      assert.equal(await storage.putNew('once/a', [Buffer.from('first')]), true)
      assert.equal(await storage.putNew('once/a', [Buffer.from('second')]), false)
      assert.equal((await storage.get('once/a')).toString(), 'first')
    })

    test('of many that write one new object at once, one wins and its bytes are there', async () => {
      const writers = Array.from({ length: 20 }, (_, index) => Buffer.alloc(10_000, index))
      const won = await Promise.all(writers.map(bytes => storage.putNew('once/race', [bytes])))
      assert.equal(won.filter(Boolean).length, 1)
      assert.deepEqual(await storage.get('once/race'), writers[won.indexOf(true)])
    })

    test('a part of an object is got by offset and length, as far as the object goes', async () => {
      await storage.put('range', [Buffer.from('0123456789')])
      const part = async (offset?: number, length?: number) =>
        (
          await storage.get('range', { ...(offset && { offset }), ...(length !== undefined && { length }) })
        ).toString()
      assert.equal(await part(3, 4), '3456')
      assert.equal(await part(0, 1), '0')
      assert.equal(await part(7), '789')
      assert.equal(await part(8, 100), '89')
      assert.equal(await part(0, 100), '0123456789')
      assert.equal(await part(10, 5), '')
      assert.equal(await part(50), '')
      assert.equal(await part(3, 0), '')
    })

    test('an absent object is told apart from an empty one', async () => {
      await assert.rejects(storage.get('absent/object'), hasCode('STORAGE_NOT_FOUND'))
      await assert.rejects(
        storage.get('absent/object', { offset: 5, length: 0 }),
        hasCode('STORAGE_NOT_FOUND'),
      )
      assert.equal(await storage.head('absent/object'), undefined)
      // Where a directory has an object.
      await storage.put('range', [Buffer.from('0123456789')])
      await assert.rejects(storage.get('range/below'), hasCode('STORAGE_NOT_FOUND'))
      assert.equal(await storage.head('range/below'), undefined)
    })

    test('objects are listed in byte order, under any beginning of a key and after any key', async () => {
      const names = [
        'A',
        'B/1',
        'a',
        'a-b',
        'a.b',
        'a0',
        'aB',
        'a_b',
        'b/1',
        'b/10',
        'b/2',
        'b/c/d',
        'b1',
        'z/z/z',
      ]
      for (const name of names.toReversed()) await storage.put(`list/${name}`, [Buffer.from(name)])
      const all = names.map(name => `list/${name}`).sort()
      assert.deepEqual(await keysOf(storage, 'list/'), all)
      for (const prefix of ['list/a', 'list/b', 'list/b/', 'list/b/1', 'list/b/c/', 'list/q', 'list/b/c/d'])
        assert.deepEqual(
          await keysOf(storage, prefix),
          all.filter(key => key.startsWith(prefix)),
          prefix,
        )
      for (const after of ['list/', 'list/a', 'list/b', 'list/b/1', 'list/b/c', 'list/b/zzz', 'list/zz', 'm'])
        assert.deepEqual(
          await keysOf(storage, 'list/', after),
          all.filter(key => key > after),
          after,
        )
      assert.deepEqual(await keysOf(storage, 'list/b/', 'list/b/10'), ['list/b/2', 'list/b/c/d'])
      for await (const { key, bytes } of storage.list('list/')) assert.equal(bytes, key.length - 5)
    })

    test('a listing of many objects is whole', async () => {
      const keys = Array.from({ length: 150 }, (_, index) => `many/${String(index).padStart(5, '0')}`)
      for (let at = 0; at < keys.length; at += 50)
        await Promise.all(keys.slice(at, at + 50).map(key => storage.put(key, [Buffer.from(key)])))
      assert.deepEqual(await keysOf(storage, 'many/'), keys)
      assert.deepEqual(await keysOf(storage, 'many/', keys[40]), keys.slice(41))
      await storage.delete(keys.slice(3))
      assert.deepEqual(await keysOf(storage, 'many/'), keys.slice(0, 3))
    })

    test('a listing that is not read to its end is left without harm', async () => {
      await storage.put('left/a', [])
      await storage.put('left/b', [])
      for await (const { key } of storage.list('left/')) {
        assert.equal(key, 'left/a')
        break
      }
    })

    test('deleted objects are gone, absent ones are fine, others stay', async () => {
      for (const key of ['gone/a/1', 'gone/a/2', 'gone/b']) await storage.put(key, [Buffer.from('x')])
      await storage.delete(['gone/a/1', 'gone/never', 'gone/a/2'])
      assert.deepEqual(await keysOf(storage, 'gone/'), ['gone/b'])
      await storage.delete(['gone/b'])
      await storage.delete(['gone/b'])
      await storage.delete([])
      assert.deepEqual(await keysOf(storage, 'gone/'), [])
      assert.equal(await storage.putNew('gone/a/1', [Buffer.from('again')]), true)
    })

    test('a large object of many parts comes back bit for bit', async () => {
      const parts = Array.from({ length: 33 * 16 + 1 }, () => randomBytes(65_521))
      const hash = (data: Uint8Array[]) =>
        data.reduce((sum, part) => sum.update(part), createHash('sha256')).digest('hex')
      await storage.put('large', parts)
      assert.equal(hash([await storage.get('large')]), hash(parts))
      const part = await storage.get('large', { offset: 20_000_000, length: 1_000_000 })
      assert.deepEqual(part, Buffer.concat(parts).subarray(20_000_000, 21_000_000))
    })

    test('a write that is cancelled leaves nothing', async () => {
      const signal = AbortSignal.abort(new Error('cancelled'))
      await assert.rejects(storage.put('cancelled', [Buffer.alloc(10)], { signal }), /cancelled/)
      await assert.rejects(storage.putNew('cancelled', [Buffer.alloc(10)], { signal }), /cancelled/)
      await storage.put('cancelled-get', [Buffer.alloc(10)])
      await assert.rejects(storage.get('cancelled-get', { signal }), /cancelled/)
      assert.equal(await storage.head('cancelled'), undefined)
    })

    test('what is not a key never reaches the store', async () => {
      const wrong = [
        '',
        '/a',
        'a/',
        'a//b',
        '../a',
        'a/../b',
        '.hidden',
        'a/.b',
        'a b',
        'a\0',
        'ä',
        'x'.repeat(600),
      ]
      for (const key of wrong) {
        await assert.rejects(storage.put(key, []), /not a key/, key)
        await assert.rejects(storage.putNew(key, []), /not a key/, key)
        await assert.rejects(storage.get(key), /not a key/, key)
        await assert.rejects(storage.head(key), /not a key/, key)
        await assert.rejects(storage.delete([key]), /not a key/, key)
      }
      await assert.rejects(keysOf(storage, '../'), /not the beginning of a key/)
    })
  })
}
