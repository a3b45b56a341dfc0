import assert from 'node:assert/strict';
import { availableParallelism } from 'node:os';
import { dialAddress, workerArguments, workerName } from './serve.js';

function valueOf(args: readonly string[], flag: string): string | undefined {
  const at = args.indexOf(flag);
  return at < 0 ? undefined : args[at + 1];
}

describe('serve', () => {
  it('dials loopback when the door is bound to every address', () => {
    assert.equal(dialAddress('0.0.0.0', 8001), '127.0.0.1:8001');
    assert.equal(dialAddress('::', 8001), '[::1]:8001');
    assert.equal(dialAddress('::1', 8001), '[::1]:8001');
    assert.equal(dialAddress('[::1]', 8001), '[::1]:8001');
    assert.equal(dialAddress('10.0.0.7', 8001), '10.0.0.7:8001');
    assert.equal(dialAddress('localhost', 8001), 'localhost:8001');
  });

  it('counts metrics ports up and hands the model flags on', () => {
    const flags = { workers: 1, metricsPort: 8002, model: 'm.gguf', kvMemory: '1GiB' };
    const args = workerArguments(1, flags, '127.0.0.1:1', 'w-1');
    assert.equal(valueOf(args, '--metrics-port'), '8003');
    assert.equal(valueOf(args, '--model'), 'm.gguf');
    assert.equal(valueOf(args, '--kv-memory'), '1GiB');
    assert.equal(valueOf(args, '--join'), '127.0.0.1:1');
    assert.equal(valueOf(args, '--worker-id'), 'w-1');
    assert.ok(!args.includes('--artifact'));
    assert.equal(
      valueOf(workerArguments(3, { ...flags, metricsPort: 0 }, 'x:1', 'w'), '--metrics-port'),
      '0',
    );
  });

  it('names a worker by its place, in characters that an id may have', () => {
    assert.equal(workerName(0, 'gpu-box.local', 50051), 'worker-0@gpu-box.local:50051');
    assert.match(workerName(12, 'Ümläut host'.repeat(20), 65535), /^[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}$/);
  });

  it('shares the cores among workers unless threads are given', () => {
    const flags = { workers: 2, metricsPort: 0 };
    const share = String(Math.max(1, Math.floor(availableParallelism() / 2)));
    assert.equal(valueOf(workerArguments(0, flags, 'x:1', 'w'), '--threads'), share);
    assert.equal(valueOf(workerArguments(0, { ...flags, threads: '7' }, 'x:1', 'w'), '--threads'), '7');
    assert.equal(valueOf(workerArguments(0, { ...flags, workers: 1 }, 'x:1', 'w'), '--threads'), undefined);
  });
});
