import assert from 'node:assert/strict';
import type { Load, RequestUpdate } from '@spotlight/proto';
import { Delta, EncodeRequest, ErrorCode, Submit } from '@spotlight/proto';
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises';
import type { ServiceError } from '../errors/service-error.js';
import type { CallListener } from './api.js';
import { ScriptedWorker, until } from './scripted-worker.fixture.js';
import type { ChannelEvents } from './worker-channel.js';
import { WorkerChannel } from './worker-channel.js';

class Recorder implements CallListener {
  readonly updates: RequestUpdate[] = [];
  readonly lost: ServiceError[] = [];
  onUpdate(update: RequestUpdate): void {
    this.updates.push(update);
  }
  onLost(error: ServiceError): void {
    this.lost.push(error);
  }
}

function submit(requestId: string): Submit {
  return Submit.fromPartial({ requestId, prompt: { $case: 'text', value: 'hi' } });
}

describe('WorkerChannel', () => {
  let worker: ScriptedWorker;
  const channels: WorkerChannel[] = [];
  beforeEach(async () => {
    worker = await ScriptedWorker.start();
  });
  afterEach(() => {
    for (const channel of channels.splice(0)) channel.close('the test ends');
    worker.kill();
  });

  async function connect(events: ChannelEvents = {}): Promise<WorkerChannel> {
    const channel = new WorkerChannel(worker.address, events);
    channels.push(channel);
    await channel.whenConnected(5_000);
    await until(() => worker.streams.length > 0, 'the stream');
    return channel;
  }

  it('runs requests side by side over one stream, each to its own listener in order', async () => {
    const loads: Load[] = [];
    const channel = await connect({ onLoad: (load) => loads.push(load) });
    const [a, b] = [new Recorder(), new Recorder()];
    channel.submit(submit('a'), a);
    channel.submit(submit('b'), b);
    await until(() => worker.received.length === 2, 'both submits');
    const text = (one: string): Delta[] => [Delta.fromPartial({ text: one })];
    worker.send({ requestId: 'a', deltas: text('1') }, { requestId: 'b', deltas: text('x') });
    worker.send({ requestId: 'b', deltas: text('y'), done: true }, { requestId: 'a', deltas: text('2') });
    worker.send({ requestId: 'a', done: true });
    await until(() => a.updates.at(-1)?.done === true, 'the end of a');
    assert.deepEqual(
      a.updates.map((update) => update.deltas[0]?.text),
      ['1', '2', undefined],
    );
    assert.deepEqual(
      b.updates.map((update) => update.deltas[0]?.text),
      ['x', 'y'],
    );
    assert.equal(worker.streams.length, 1);
    assert.equal(channel.inFlight, 0);
    assert.equal(loads.length, 3);
    assert.equal(loads[0]?.running, 3);
  });

  it('sends credits and one cancel; nothing follows a cancel, not even what is under way', async () => {
    const channel = await connect();
    const recorder = new Recorder();
    const call = channel.submit(submit('a'), recorder);
    call.credit(5);
    call.cancel();
    call.cancel();
    call.credit(1);
    await until(() => worker.received.length >= 3, 'the cancel');
    worker.send({ requestId: 'a', done: true });
    await sleep(20);
    assert.deepEqual(worker.heard(), ['submit a', 'credit a', 'cancel a']);
    assert.deepEqual(recorder.updates, []);
    assert.deepEqual(recorder.lost, []);
    assert.equal(channel.inFlight, 0);
  });

  it('lets an old handle of an id do nothing to a newer request of that id', async () => {
    const channel = await connect();
    const old = channel.submit(submit('a'), new Recorder());
    await until(() => worker.received.length === 1, 'the submit');
    worker.send({ requestId: 'a', done: true });
    await until(() => channel.inFlight === 0, 'the end');
    const recorder = new Recorder();
    channel.submit(submit('a'), recorder);
    old.cancel();
    assert.equal(channel.inFlight, 1);
    assert.throws(() => channel.submit(submit('a'), recorder), {
      code: ErrorCode.CONFLICT,
      field: 'request_id',
    });
  });

  it('loses every request when the worker dies, retryably and once, and refuses the next', async () => {
    const connected: boolean[] = [];
    const channel = await connect({ onConnected: (yes) => connected.push(yes) });
    const recorders = Array.from({ length: 20 }, () => new Recorder());
    for (const [i, recorder] of recorders.entries()) channel.submit(submit(`r${i}`), recorder);
    await until(() => worker.received.length === 20, 'the submits');
    worker.kill();
    await until(() => recorders.every((recorder) => recorder.lost.length > 0), 'the losses');
    for (const { lost, updates } of recorders) {
      assert.equal(lost.length, 1);
      assert.equal(lost[0]?.code, ErrorCode.WORKER_LOST);
      assert.ok(lost[0].retryable);
      assert.deepEqual(updates, []);
    }
    assert.throws(() => channel.submit(submit('late'), new Recorder()), { code: ErrorCode.UNAVAILABLE });
    assert.deepEqual(connected, [true, false]);
  });

  it('finds the worker again on its port', async () => {
    const channel = await connect();
    const { port } = worker;
    worker.kill();
    await until(() => !channel.connected, 'the loss');
    worker = await ScriptedWorker.start(port);
    await channel.whenConnected(5_000);
    const recorder = new Recorder();
    channel.submit(submit('again'), recorder);
    await until(() => worker.received.length === 1, 'the submit');
    worker.send({ requestId: 'again', done: true });
    await until(() => recorder.updates.length === 1, 'the answer');
  });

  it('says where nobody answers', async () => {
    const { address } = worker;
    worker.kill();
    const channel = new WorkerChannel(address);
    channels.push(channel);
    await assert.rejects(channel.whenConnected(200), {
      code: ErrorCode.UNAVAILABLE,
      message: new RegExp(`worker at ${address} cannot take requests`),
    });
    assert.throws(() => channel.submit(submit('a'), new Recorder()), { code: ErrorCode.UNAVAILABLE });
  });

  it('cancels the request of a listener that throws, and runs the others on', async () => {
    const faults: unknown[] = [];
    const channel = await connect({ onFault: (error) => faults.push(error) });
    const good = new Recorder();
    const bad: CallListener = {
      onUpdate: () => {
        throw new Error('listener');
      },
      onLost: () => {
        throw new Error('listener');
      },
    };
    channel.submit(submit('bad'), bad);
    channel.submit(submit('good'), good);
    await until(() => worker.received.length === 2, 'the submits');
    worker.send({ requestId: 'bad' }, { requestId: 'good', done: true });
    await until(() => good.updates.length === 1, 'the good one');
    await until(() => worker.heard().includes('cancel bad'), 'the cancel');
    assert.equal(faults.length, 1);
    assert.equal(channel.inFlight, 0);
  });

  it('retires: what runs may end, nothing new begins, then it closes', async () => {
    const channel = await connect();
    const recorder = new Recorder();
    channel.submit(submit('last'), recorder);
    await until(() => worker.received.length === 1, 'the submit');
    channel.retire();
    assert.throws(() => channel.submit(submit('new'), new Recorder()), { code: ErrorCode.UNAVAILABLE });
    worker.send({ requestId: 'last', done: true });
    await until(() => recorder.updates.length === 1, 'the answer');
    await until(() => worker.streams[0]!.cancelled, 'the end of the stream');
    assert.deepEqual(recorder.lost, []);
  });

  it('carries a prompt larger than the library lets through by itself', async () => {
    const channel = await connect();
    const value = 'x'.repeat(6 * 2 ** 20);
    channel.submit(
      Submit.fromPartial({ requestId: 'long', prompt: { $case: 'text', value } }),
      new Recorder(),
    );
    await until(() => worker.received.length === 1, 'the submit');
    const [message] = worker.received;
    assert.ok(message?.$case === 'submit' && message.value.prompt?.$case === 'text');
    assert.equal(message.value.prompt.value.length, value.length);
  });

  it('encodes and describes, with refusals in our own error', async () => {
    const channel = await connect();
    const encoded = await channel.encode({ prompt: { $case: 'text', value: 'AB' } }, 5_000);
    assert.deepEqual(encoded.tokenIds, [65, 66]);
    assert.equal((await channel.describe(5_000)).workerId, 'described');
    await assert.rejects(channel.encode(EncodeRequest.fromPartial({}), 5_000), {
      code: ErrorCode.INVALID_ARGUMENT,
      message: 'prompt is missing',
    });
    worker.kill();
    await turn();
    await assert.rejects(channel.encode(EncodeRequest.fromPartial({}), 5_000), {
      code: ErrorCode.UNAVAILABLE,
    });
  });
});
