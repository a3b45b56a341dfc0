// Models of the hub through the real client library against the local stand-in: what is fetched, what is checked, what resumes.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fetchHubModel, parseHubModel } from '@spotlight/worker/models/hub.js';
import { ModelError } from '@spotlight/worker/models/model-error.js';
import { resolveModel } from '@spotlight/worker/models/resolve.js';
import { FakeHub } from '../fakes/hub.js';

const WEIGHTS = Buffer.from(Uint32Array.from({ length: 750_000 }, (_, i) => i * 2654435761).buffer);

describe('models of the hub', () => {
  let hub: FakeHub;
  let cache: string;
  let lines: string[];
  beforeEach(async () => {
    hub = await FakeHub.start('org/tiny');
    hub.put('README.md', 'about');
    hub.put('config.json', '{}');
    hub.put('tokenizer.json', '{"model":{}}');
    hub.put('model.safetensors', WEIGHTS, true);
    hub.put('tiny.Q4_1.gguf', 'GGUF', true);
    cache = await mkdtemp(join(tmpdir(), 'spotlight-hub-'));
    lines = [];
  });
  afterEach(async () => {
    await hub.close();
    await rm(cache, { recursive: true });
  });

  const options = (token?: string): Parameters<typeof fetchHubModel>[1] => ({
    cache,
    hubUrl: hub.url,
    token,
    say: (line) => lines.push(line),
    retryMs: 1,
  });
  const fetchIt = (spec = 'org/tiny', token?: string): Promise<string> =>
    fetchHubModel(parseHubModel(spec)!, options(token));

  async function failure(spec?: string, token?: string): Promise<ModelError> {
    try {
      await fetchIt(spec, token);
    } catch (error) {
      assert.ok(error instanceof ModelError, String(error));
      return error;
    }
    assert.fail('no ModelError');
  }

  it('fetches the files a model needs, once', async () => {
    const folder = await fetchIt();
    assert.deepEqual((await readdir(folder)).sort(), ['config.json', 'model.safetensors', 'tokenizer.json']);
    assert.deepEqual(await readFile(join(folder, 'model.safetensors')), WEIGHTS);
    const asked = hub.requests.length;
    assert.equal(await fetchIt(), folder);
    assert.equal(hub.requests.length, asked);
  });

  it('resolves an id to a folder and a chosen GGUF file to that file', async () => {
    const where = { cache, hubUrl: hub.url, hubToken: undefined, say: () => undefined };
    const folder = await resolveModel('org/tiny', where);
    assert.equal(folder.id, 'org/tiny');
    assert.equal(folder.source.kind, 'safetensors');
    const file = await resolveModel('org/tiny:tiny.Q4_1.gguf', where);
    assert.equal(file.id, 'tiny.Q4_1');
    assert.ok(file.source.kind === 'gguf' && basename(file.source.path) === 'tiny.Q4_1.gguf');
  });

  it('goes on where a cut transfer stopped, within one run and after it', async () => {
    hub.faults.cuts.push(...Array<number>(2).fill(Infinity), 1_000_000, 500_000);
    const folder = await fetchIt();
    assert.deepEqual(await readFile(join(folder, 'model.safetensors')), WEIGHTS);
    const from = hub.requests
      .filter(({ path }) => path === 'model.safetensors')
      .map((request) => request.from);
    assert.equal(from.length, 3);
    assert.ok(from[0] === 0 && from[1]! > 0 && from[2]! > from[1]!, from.join());
  });

  it('resumes after a run that gave up', async () => {
    hub.faults.cuts.push(...Array<number>(2).fill(Infinity), ...Array<number>(5).fill(200_000));
    assert.equal((await failure()).code, 'UNREACHABLE');
    const folder = await fetchIt();
    assert.deepEqual(await readFile(join(folder, 'model.safetensors')), WEIGHTS);
    assert.ok(hub.requests.at(-1)!.from > 0);
  });

  it('refuses bytes that are not those listed, and starts over the next time', async () => {
    for (const path of ['model.safetensors', 'config.json']) {
      hub.faults.corrupt = path;
      const error = await failure();
      assert.equal(error.code, 'HASH_MISMATCH');
      assert.match(error.message, new RegExp(`^${path.replace('.', '\\.')} of org/tiny has hash`));
      hub.faults.corrupt = undefined;
      await fetchIt();
      await rm(cache, { recursive: true });
    }
    await fetchIt();
  });

  it('says that the disk is full', async () => {
    const oid = createHash('sha256').update(WEIGHTS).digest('hex');
    const folder = join(cache, 'hub', 'org--tiny', hub.commit);
    await mkdir(folder, { recursive: true });
    await symlink('/dev/full', join(folder, `model.safetensors.${oid.slice(0, 16)}.part`));
    const error = await failure();
    assert.equal(error.code, 'NO_SPACE');
    assert.match(error.message, /no space left .* make room, or choose another folder by --cache/);
  });

  it('survives a server that ignores ranges', async () => {
    hub.faults.cuts.push(...Array<number>(2).fill(Infinity), 1_000_000);
    hub.faults.ignoreRanges = true;
    const folder = await fetchIt();
    assert.deepEqual(await readFile(join(folder, 'model.safetensors')), WEIGHTS);
  });

  it('tries again while the hub is unavailable, and serves from the cache when it stays away', async () => {
    hub.faults.unavailable = 2;
    const folder = await fetchIt();
    hub.faults.unavailable = 1000;
    assert.equal(await fetchIt(), folder);
    assert.match(lines.at(-1)!, /^the hub cannot be reached, serving org\/tiny/);
    await rm(cache, { recursive: true });
    assert.equal((await failure()).code, 'UNREACHABLE');
  });

  it('says what is missing: the model, the file, the permission, a real token', async () => {
    const absent = await failure('org/absent');
    assert.equal(absent.code, 'NOT_FOUND');
    assert.match(absent.message, /org\/absent has no model/);
    assert.match((await failure('org/tiny:other.gguf')).message, /its GGUF files: tiny\.Q4_1\.gguf/);
    hub.faults.token = 'hf_secret';
    const refused = await failure();
    assert.equal(refused.code, 'REFUSED');
    assert.match(refused.message, /HTTP 401.*HF_TOKEN/);
    assert.match((await failure('org/tiny', 'secret')).message, /must start with hf_/);
    await fetchIt('org/tiny', 'hf_secret');
  });
});
