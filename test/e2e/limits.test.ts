// Limits of an API key as clients of both doors meet them, and join tokens as workers do.
import assert from 'node:assert/strict';
import { credentials, Metadata, status } from '@grpc/grpc-js';
import { GenerateRequest, GenerationClient } from '@spotlight/proto';
import { setTimeout as sleep } from 'node:timers/promises';
import { FAKE_MODEL, FakeWorker } from '../fakes/worker.js';
import type { Gateway } from './gateway.js';
import { START_MS, startGateway, until } from './gateway.js';

const ADMIN = 'the-admin-key-of-this-test';

interface Key {
  readonly id: string;
  readonly key: string;
}

describe('limits of API keys', () => {
  let gateway: Gateway;

  before(async function () {
    this.timeout(START_MS);
    gateway = await startGateway({ auth: 'required' }, { SPOTLIGHT_ADMIN_KEY: ADMIN });
    await gateway.worker({ workerId: 'w', joinToken: ADMIN, stepMs: 5 });
  });
  beforeEach(async () => {
    // A test must not lie across two minutes.
    const left = 60_000 - (Date.now() % 60_000);
    if (left < 4_000) await sleep(left + 10);
  });
  after(() => gateway.close());

  async function admin<T>(method: string, path: string, body: object): Promise<T> {
    const response = await fetch(`${gateway.http}/api/v1/keys${path}`, {
      method,
      headers: { authorization: `Bearer ${ADMIN}`, 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
    assert.ok(response.ok, await response.clone().text());
    return (await response.json()) as T;
  }
  const limited = (limits: object): Promise<Key> => admin('POST', '', { name: 'limited', limits });
  const ask = (key: string, maxTokens = 2, stream = false): Promise<Response> =>
    fetch(`${gateway.http}/v1/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
      body: JSON.stringify({
        model: FAKE_MODEL,
        prompt: 'one two three four',
        max_tokens: maxTokens,
        stream,
      }),
    });
  const codeOf = async (response: Response): Promise<string> =>
    ((await response.json()) as { error: { code: string } }).error.code;

  it('requests a minute: 429 with the time to wait, and what is left on every answer', async () => {
    const { id, key } = await limited({ requestsPerMinute: 2 });
    const left: (string | null)[] = [];
    for (let i = 0; i < 2; i++) {
      const response = await ask(key);
      assert.equal(response.status, 200);
      left.push(response.headers.get('x-ratelimit-remaining-requests'));
    }
    assert.deepEqual(left, ['1', '0']);
    const refused = await ask(key);
    assert.equal(refused.status, 429);
    assert.ok(Number(refused.headers.get('retry-after')) >= 1);
    assert.equal(refused.headers.get('x-ratelimit-limit-requests'), '2');
    assert.equal(refused.headers.get('x-ratelimit-remaining-requests'), '0');
    assert.equal(await codeOf(refused), 'rate_limit_exceeded');
    assert.equal((await ask(ADMIN)).headers.get('x-ratelimit-limit-requests'), null);
    await admin('PATCH', `/${id}`, { limits: { requestsPerMinute: null } });
    assert.equal((await ask(key)).status, 200);
  });

  it('requests at once: a stream holds its place until it ends or its client leaves', async () => {
    const { key } = await limited({ concurrentRequests: 1 });
    const running = await ask(key, 2000, true);
    assert.equal(running.status, 200);
    assert.equal((await ask(key)).status, 429);
    await running.body?.cancel();
    const after = async (): Promise<Response> => {
      for (;;) {
        const response = await ask(key);
        if (response.status === 200) return response;
        await sleep(20);
      }
    };
    await after();
  }).timeout(10_000);

  it('a budget of tokens: counted at both doors, also of a client that left, and then over for good', async () => {
    const { key } = await limited({ tokenBudget: 40 });
    const running = await ask(key, 2000, true);
    await running.body?.getReader().read();
    await sleep(200); // Some forty tokens of 5 ms each.
    await running.body?.cancel().catch(() => undefined);
    const broke = await (async (): Promise<Response> => {
      for (;;) {
        const response = await ask(key, 10);
        if (response.status === 429) return response;
        await response.text();
      }
    })();
    assert.equal(broke.headers.get('retry-after'), null);
    assert.equal(await codeOf(broke), 'insufficient_quota');

    const client = new GenerationClient(gateway.grpc, credentials.createInsecure());
    const metadata = new Metadata();
    metadata.set('authorization', `Bearer ${key}`);
    const call = client.generate(
      GenerateRequest.fromPartial({ prompt: { $case: 'text', value: 'x' }, sampling: { maxTokens: 2 } }),
      metadata,
    );
    const code = await new Promise((resolve) => {
      call.on('error', (error) => {
        resolve((error as { code?: status }).code);
      });
      call.on('data', () => undefined);
      call.on('end', () => {
        resolve(status.OK);
      });
    });
    assert.equal(code, status.RESOURCE_EXHAUSTED);
    client.close();
  }).timeout(20_000);

  it('a join token is a key of scope worker that may end, and be taken back', async () => {
    const expires = new Date(Date.now() + 3_600_000).toISOString();
    const { id, key } = await admin<Key>('POST', '', { name: 'join', scopes: ['worker'], expires });
    assert.equal((await ask(key)).status, 403);
    const joined = (workerId: string): boolean =>
      gateway.controlPlane.fleet.snapshots().some((one) => one.workerId === workerId);
    const worker = await FakeWorker.start({ workerId: 'by-token', join: [gateway.grpc], joinToken: key });
    await until(() => joined('by-token'), 'the worker');
    await worker.close();
    const gone = await fetch(`${gateway.http}/api/v1/keys/${id}`, {
      method: 'DELETE',
      headers: { authorization: `Bearer ${ADMIN}` },
    });
    assert.equal(gone.status, 204);
    const late = await FakeWorker.start({ workerId: 'late', join: [gateway.grpc], joinToken: key });
    await sleep(300);
    assert.equal(joined('late'), false);
    await late.close();
  });
});
