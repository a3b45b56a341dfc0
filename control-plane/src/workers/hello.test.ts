import assert from 'node:assert/strict';
import { ErrorCode } from '@spotlight/proto';
import { ServiceError } from '../errors/service-error.js';
import { checkHello } from './hello.js';
import { helloOf } from './scripted-worker.fixture.js';

const PEER = '10.0.0.9:55123';

describe('checkHello', () => {
  it('takes a good one as it is', () => {
    const checked = checkHello(helloOf('cpu-0', '127.0.0.1:9000'), PEER);
    assert.equal(checked.workerId, 'cpu-0');
    assert.equal(checked.address, '127.0.0.1:9000');
    assert.equal(checked.metricsAddress, '127.0.0.1:9');
    assert.equal(checked.model.id, 'm');
  });

  it("dials the peer's own address when the worker binds every interface", () => {
    for (const address of ['0.0.0.0:9000', '[::]:9000', ':9000']) {
      assert.equal(checkHello(helloOf('w', address), PEER).address, '10.0.0.9:9000', address);
    }
    assert.equal(checkHello(helloOf('w', '0.0.0.0:9000'), '[fe80::1]:4').address, '[fe80::1]:9000');
    assert.throws(() => checkHello(helloOf('w', '0.0.0.0:9000'), 'unknown'), /names no host/);
  });

  const base = helloOf('w', 'h:1');
  const description = (change: object): object => ({ description: { ...base.description, ...change } });
  const model = (change: object): object => description({ model: { ...base.description?.model, ...change } });
  const garbage: [what: string, field: string, change: object][] = [
    ['no description', 'hello.description', { description: undefined }],
    ['an empty id', 'hello.description.worker_id', description({ workerId: '' })],
    ['an id with a blank', 'hello.description.worker_id', description({ workerId: 'a b' })],
    ['too long an id', 'hello.description.worker_id', description({ workerId: 'w'.repeat(129) })],
    ['an id that is a path', 'hello.description.worker_id', description({ workerId: '../../etc' })],
    ['no model', 'hello.description.model', description({ model: undefined })],
    ['an empty model id', 'hello.description.model.id', model({ id: '' })],
    ['a model id with a line end', 'hello.description.model.id', model({ id: 'm\n' })],
    ['an unknown backend', 'hello.description.model.backend', model({ backend: 'magic' })],
    ['a context of nothing', 'hello.description.model.max_model_len', model({ maxModelLen: 0 })],
    ['an empty vocabulary', 'hello.description.model.vocab_size', model({ vocabSize: 0 })],
    ['an unknown device', 'hello.description.device', description({ device: 'tpu' })],
    ['blocks of nothing', 'hello.description.block_size', description({ blockSize: 0 })],
    ['no room at all', 'hello.description.max_requests', description({ maxRequests: 0 })],
    ['too long a version', 'hello.description.version', description({ version: 'v'.repeat(5000) })],
    ['no address', 'hello.serve_address', { serveAddress: '' }],
    ['a URL as address', 'hello.serve_address', { serveAddress: 'http://h:1' }],
    ['port 0', 'hello.serve_address', { serveAddress: 'h:0' }],
    ['a port too high', 'hello.serve_address', { serveAddress: 'h:65536' }],
    ['a local socket', 'hello.serve_address', { serveAddress: 'unix:/etc/passwd' }],
    ['a metrics address without a port', 'hello.metrics_address', { metricsAddress: 'h' }],
  ];
  for (const [what, field, change] of garbage) {
    it(`refuses ${what}, naming ${field}`, () => {
      assert.throws(
        () => checkHello({ ...base, ...change }, PEER),
        (error) =>
          error instanceof ServiceError &&
          error.code === ErrorCode.INVALID_ARGUMENT &&
          error.field === field &&
          error.message.length < 300,
      );
    });
  }
});
