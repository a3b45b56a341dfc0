// The admin API over HTTP on a real control plane, with keys required: who may what, and what each mistake is told.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadConfig } from '../config/config.js';
import type { ControlPlane } from '../start.js';
import { startControlPlane } from '../start.js';

const ADMIN = 'the-admin-key-of-this-test';

interface Answer {
  readonly status: number;
  readonly body: {
    readonly id?: string;
    readonly key?: string;
    readonly scopes?: string[];
    readonly keys?: { readonly id: string; readonly name: string }[];
    readonly workers?: unknown[];
    readonly models?: unknown[];
    readonly error?: { readonly message: string; readonly param: string | null; readonly code: string };
  };
}

describe('admin API', function () {
  this.timeout(60_000);
  let dataDir: string;
  let controlPlane: ControlPlane;

  before(async () => {
    dataDir = mkdtempSync(join(tmpdir(), 'spotlight-admin-'));
    const flags = { data: dataDir, httpPort: '0', grpcPort: '0', auth: 'required', logLevel: 'silent' };
    controlPlane = await startControlPlane(loadConfig(flags, { SPOTLIGHT_ADMIN_KEY: ADMIN }));
  });
  after(async () => {
    await controlPlane.close();
    rmSync(dataDir, { recursive: true });
  });

  async function ask(method: string, path: string, key?: string, body?: unknown): Promise<Answer> {
    const response = await fetch(`${controlPlane.httpUrl}${path}`, {
      method,
      headers: {
        ...(key === undefined ? {} : { authorization: `Bearer ${key}` }),
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    return { status: response.status, body: text === '' ? {} : (JSON.parse(text) as Answer['body']) };
  }

  it('opens no route of the document to who has no admin key', async () => {
    const document = await fetch(`${controlPlane.httpUrl}/api/v1/openapi.json`, {
      headers: { authorization: `Bearer ${ADMIN}` },
    });
    const { paths } = (await document.json()) as { paths: Record<string, Record<string, unknown>> };
    const generate = await ask('POST', '/api/v1/keys', ADMIN, { name: 'no admin' });
    let routes = 0;
    for (const [path, methods] of Object.entries(paths)) {
      for (const method of Object.keys(methods)) {
        const concrete = path.replace(/\{\w+\}/g, 'x');
        const status = async (key?: string): Promise<number> =>
          (await ask(method.toUpperCase(), concrete, key)).status;
        assert.equal(await status(), 401, `${method} ${path} without a key`);
        assert.equal(await status(generate.body.key), 403, `${method} ${path} with a key of scope generate`);
        routes += 1;
      }
    }
    assert.ok(routes > 20, `the document names ${routes} routes`);
    await ask('DELETE', `/api/v1/keys/${generate.body.id}`, ADMIN);
  });

  it('wants a key on every route', async () => {
    for (const path of ['/api/v1/keys', '/api/v1/workers', '/api/v1/models', '/v1/models']) {
      const { status, body } = await ask('GET', path);
      assert.equal(status, 401, path);
      assert.match(body.error?.message ?? '', /Authorization: Bearer KEY/);
    }
    assert.equal((await ask('GET', '/api/v1/keys', 'wrong')).status, 401);
  });

  it('makes a key, which is good at once for its scope and no other, until it is revoked', async () => {
    const made = await ask('POST', '/api/v1/keys', ADMIN, { name: 'app' });
    assert.equal(made.status, 201);
    assert.deepEqual(made.body.scopes, ['generate']);
    const { id, key } = made.body;
    assert.ok(id !== undefined && key !== undefined);

    assert.equal((await ask('GET', '/v1/models', key)).status, 200);
    const refused = await ask('GET', '/api/v1/keys', key);
    assert.equal(refused.status, 403);
    assert.match(refused.body.error?.message ?? '', /has the scopes generate; this needs admin/);

    const listed = await ask('GET', '/api/v1/keys', ADMIN);
    assert.deepEqual(
      listed.body.keys?.map(({ name }) => name),
      ['app'],
    );
    assert.ok(!JSON.stringify(listed.body).includes(key));

    assert.equal((await ask('DELETE', `/api/v1/keys/${id}`, ADMIN)).status, 204);
    assert.equal((await ask('GET', '/v1/models', key)).status, 401);
    assert.equal((await ask('DELETE', `/api/v1/keys/${id}`, ADMIN)).status, 404);
  });

  it('names the field at fault', async () => {
    const cases: [unknown, string][] = [
      [{}, 'name'],
      [{ name: '' }, 'name'],
      [{ name: 'x', scopes: ['root'] }, 'scopes[0]'],
      [{ name: 'x', scopes: [] }, 'scopes'],
      [{ name: 'x', expires: 'never' }, 'expires'],
    ];
    for (const [body, param] of cases) {
      const answer = await ask('POST', '/api/v1/keys', ADMIN, body);
      assert.equal(answer.status, 400, JSON.stringify(body));
      assert.equal(answer.body.error?.param, param);
    }
  });

  it('lists workers and models, none yet, and names a worker that never joined', async () => {
    assert.deepEqual((await ask('GET', '/api/v1/workers', ADMIN)).body.workers, []);
    assert.deepEqual((await ask('GET', '/api/v1/models', ADMIN)).body.models, []);
    const drained = await ask('PUT', '/api/v1/workers/ghost/drain', ADMIN, { drain: true });
    assert.equal(drained.status, 404);
    assert.match(drained.body.error?.message ?? '', /No worker "ghost" has ever joined/);
    assert.equal((await ask('PUT', '/api/v1/workers/ghost/drain', ADMIN, { drain: 'yes' })).status, 400);
  });
});
