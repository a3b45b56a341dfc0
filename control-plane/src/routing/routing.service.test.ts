import assert from 'node:assert/strict';
import type { Model } from '@spotlight/proto';
import { ErrorCode, ModelDescription } from '@spotlight/proto';
import { loadConfig } from '../config/config.js';
import type { WorkerFleet, WorkerSnapshot } from '../workers/api.js';
import { RoutingService } from './routing.service.js';
import { request, worker } from './snapshot.fixture.js';

describe('RoutingService', () => {
  let workers: WorkerSnapshot[];
  let served: string[];
  let expected: string[];
  let change: () => void;
  let routing: RoutingService;

  beforeEach(() => {
    workers = [worker('a'), worker('b'), worker('c')];
    served = ['m'];
    expected = [];
    const fleet = {
      snapshots: () => workers,
      onChange: (listener: () => void) => {
        change = listener;
        return () => undefined;
      },
    } as unknown as WorkerFleet;
    const models = {
      served: () => served.map((id) => ({ id }) as Model),
      isExpected: (id: string) => expected.includes(id),
    };
    routing = new RoutingService(fleet, models, loadConfig({}, {}));
  });

  const at = (one = request()): string => routing.route(one).workerId;

  it('prefers the idle worker', () => {
    workers = [worker('a', { running: 5 }), worker('b'), worker('c', { running: 5 })];
    for (let i = 0; i < 20; i++) assert.equal(at(request({ prefixHashes: [BigInt(i)] })), 'b');
  });

  it('brings a conversation back to its worker, also when it grows', () => {
    const first = at(request({ prefixHashes: [1n, 2n, 3n] }));
    for (let turn = 4n; turn < 20n; turn++) {
      const prefixHashes = Array.from({ length: Number(turn) }, (_, i) => BigInt(i + 1));
      assert.equal(at(request({ prefixHashes })), first);
    }
  });

  it('spreads a popular prefix once its worker is far ahead of the others', () => {
    const prefixHashes = [1n, 2n, 3n];
    const counts = new Map(workers.map(({ workerId }) => [workerId, 0]));
    for (let i = 0; i < 60; i++) {
      const id = at(request({ prefixHashes }));
      counts.set(id, (counts.get(id) ?? 0) + 1);
      workers = workers.map((one) =>
        one.workerId === id ? { ...one, inFlight: one.inFlight + 1, maxRequests: 100 } : one,
      );
    }
    const spread = [...counts.values()];
    assert.ok(Math.max(...spread) - Math.min(...spread) <= 12, `spread ${spread.join(' ')}`);
  });

  it('keeps a session on one worker and moves only when that is full', () => {
    const home = at(request({ sessionId: 's' }));
    for (let i = 0; i < 10; i++)
      assert.equal(at(request({ sessionId: 's', prefixHashes: [BigInt(i)] })), home);
    workers = workers.map((one) => (one.workerId === home ? worker(home, { running: 8, waiting: 8 }) : one));
    assert.notEqual(at(request({ sessionId: 's' })), home);
  });

  it('forgets what a worker had seen when it left', () => {
    const prefixHashes = [1n, 2n, 3n];
    change();
    const first = at(request({ prefixHashes }));
    const others = workers.filter(({ workerId }) => workerId !== first);
    const all = workers;
    workers = others;
    change();
    const second = at(request({ prefixHashes }));
    workers = all;
    change();
    assert.equal(
      at(request({ prefixHashes })),
      second,
      'the second has the prefix now, the first came back empty',
    );
  });

  it('names the served models to whoever asks for another', () => {
    served = ['m', 'n'];
    assert.throws(() => at(request({ model: 'gpt' })), {
      code: ErrorCode.NOT_FOUND,
      field: 'model',
      message: 'The model "gpt" is not served here; served: m, n.',
    });
  });

  it('asks to try again while a known model is away, or no worker has come yet', () => {
    expected = ['away'];
    assert.throws(() => at(request({ model: 'away' })), {
      code: ErrorCode.UNAVAILABLE,
      retryAfterSeconds: 2,
    });
    [workers, served] = [[], []];
    assert.throws(() => at(), { code: ErrorCode.UNAVAILABLE, message: /No worker has joined yet/ });
  });

  it('tells apart not ready, none left and full', () => {
    workers = [worker('a', {}, { state: 'draining' }), worker('b', {}, { state: 'starting' })];
    assert.throws(() => at(), { code: ErrorCode.UNAVAILABLE, message: /a is draining, b is starting/ });
    workers = [worker('a')];
    assert.throws(() => at(request({ exclude: new Set(['a']) })), {
      code: ErrorCode.UNAVAILABLE,
      message: /No other worker serves "m"/,
    });
    workers = [worker('a', { running: 8, waiting: 8 })];
    assert.throws(() => at(), { code: ErrorCode.OVERLOADED, retryAfterSeconds: 1 });
  });

  it('means the only model by none, and asks for one among several', () => {
    assert.equal(routing.resolveModel(''), 'm');
    assert.equal(routing.resolveModel('other'), 'other');
    served = ['m', 'n'];
    assert.throws(() => routing.resolveModel(''), { code: ErrorCode.INVALID_ARGUMENT, field: 'model' });
    served = [];
    assert.throws(() => routing.resolveModel(''), { code: ErrorCode.UNAVAILABLE });
  });

  it('routes over a thousand workers in milliseconds', () => {
    const model = ModelDescription.fromPartial({ id: 'm' });
    workers = Array.from({ length: 1000 }, (_, i) => worker(`w${i}`, { running: i % 7 }, { model }));
    const prefixHashes = Array.from({ length: 100 }, (_, i) => BigInt(i));
    at(request({ prefixHashes }));
    const began = performance.now();
    for (let i = 0; i < 50; i++) at(request({ prefixHashes }));
    const each = (performance.now() - began) / 50;
    assert.ok(each < 20, `${each.toFixed(2)} ms a route`);
  });
});
