import assert from 'node:assert/strict'
import { test } from 'node:test'
import { RouteTable } from './not-found.ts'

test('methods of a path come from every pattern that it fits', () => {
  const routes = new RouteTable()
  routes.add('/api/rounds/:id', ['GET', 'HEAD'])
  routes.add('/api/rounds/:id', ['DELETE'])
  routes.add('/api/rounds/latest', ['POST'])
  routes.add('/ops/*', ['GET'])
  routes.add('/', ['GET'])
  assert.deepEqual(routes.methodsFor('/api/rounds/7'), ['DELETE', 'GET', 'HEAD'])
  assert.deepEqual(routes.methodsFor('/api/rounds/latest'), ['DELETE', 'GET', 'HEAD', 'POST'])
  assert.deepEqual(routes.methodsFor('/ops/a/b'), ['GET'])
  assert.deepEqual(routes.methodsFor('/'), ['GET'])
  for (const unknown of ['/api/rounds', '/api/rounds/', '/api/rounds/7/x', '/nope', '', '//']) {
    assert.deepEqual(routes.methodsFor(unknown), [], unknown)
  }
})
