// `spotlight artifact` as a platform engineer runs it, against a server with keys: push, list, show, validate, retire, delete, and one line
// with the right status for what is refused.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ARTIFACT } from '@spotlight/control-plane/admin/shapes.js';
import type { ArtifactFile } from '@spotlight/control-plane/artifacts/artifact-file.fixture.js';
import { artifactFile } from '@spotlight/control-plane/artifacts/artifact-file.fixture.js';
import type { Gateway } from './gateway.js';
import { START_MS, startGateway } from './gateway.js';

const SPOTLIGHT = fileURLToPath(import.meta.resolve('@spotlight/control-plane/cli/main.js'));
const ADMIN = 'the-admin-key-of-this-test';
const TOKEN = 'a-join-token-of-this-test';

interface Ended {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

describe('spotlight artifact', () => {
  let gateway: Gateway;
  let folder: string;
  let good: ArtifactFile;
  let bad: ArtifactFile;

  before(async function () {
    this.timeout(START_MS);
    folder = await mkdtemp(join(tmpdir(), 'spotlight-cli-artifact-'));
    [good, bad] = await Promise.all([artifactFile(1), artifactFile(2)]);
    await writeFile(join(folder, 'good'), good.bytes);
    await writeFile(join(folder, 'bad'), bad.bytes);
    await writeFile(join(folder, 'cut'), good.bytes.subarray(0, -1));
    gateway = await startGateway(
      { auth: 'required' },
      { SPOTLIGHT_ADMIN_KEY: ADMIN, SPOTLIGHT_JOIN_TOKENS: TOKEN },
    );
    await gateway.worker({
      workerId: 'w',
      joinToken: TOKEN,
      quality: (digest) => (digest === bad.digest ? 0.1 : 0.9),
    });
  });
  after(async () => {
    await gateway.close();
    await rm(folder, { recursive: true });
  });

  function run(args: readonly string[], key = ADMIN): Promise<Ended> {
    const env = { ...process.env, SPOTLIGHT_URL: gateway.http, SPOTLIGHT_API_KEY: key };
    return new Promise((resolve) => {
      execFile(process.execPath, [SPOTLIGHT, 'artifact', ...args], { env }, (error, stdout, stderr) => {
        resolve({ status: error === null ? 0 : Number(error.code), stdout, stderr });
      });
    });
  }
  async function runs(...args: string[]): Promise<string> {
    const { status, stdout, stderr } = await run(args);
    assert.equal(status, 0, stderr);
    return stdout;
  }

  it('pushes and validates, and says so again when it is there already', async () => {
    const pushed = JSON.parse(await runs('push', join(folder, 'good'), '--json')) as Record<string, unknown>;
    assert.deepEqual([pushed['created'], pushed['passed']], [true, true]);
    assert.equal(ARTIFACT.parse(pushed['artifact']).state, 'validated');
    assert.match(await runs('push', join(folder, 'good')), /validated {2}\(was here already\)/);
  }).timeout(60_000);

  it('ends with status 1 when the artifact is rejected, unless it is forced', async () => {
    const rejected = await run(['push', join(folder, 'bad')]);
    assert.equal(rejected.status, 1);
    assert.match(rejected.stderr, /^spotlight: The artifact does not pass: IoU 0\.100 is below .*--force/m);
    assert.match(
      await runs('validate', bad.digest.slice(0, 12), '--force'),
      /validated .*\nforced, though IoU/,
    );
  }).timeout(60_000);

  it('lists and shows', async () => {
    const table = await runs('list', '--state', 'validated');
    assert.match(table, new RegExp(`^${good.digest.slice(0, 12)} +validated +linear-asym +128 +1 `, 'm'));
    const shown: unknown = JSON.parse(await runs('show', good.digest, '--json'));
    assert.equal(ARTIFACT.parse(shown).digest, good.digest);
    assert.match(
      await runs('show', good.digest.slice(0, 8)),
      /^quality +IoU 0\.900, kept mass 0\.900, by w at/m,
    );
  }).timeout(60_000);

  it('retires and deletes', async () => {
    assert.match(await runs('retire', bad.digest, '--reason', 'random'), /retired/);
    assert.deepEqual(JSON.parse(await runs('delete', bad.digest, '--json')), { deleted: bad.digest });
    const gone = await run(['show', bad.digest]);
    assert.deepEqual([gone.status, /There is no artifact/.test(gone.stderr)], [1, true]);
  }).timeout(60_000);

  it('tells in one line what is wrong', async () => {
    const cases: [readonly string[], string, number, RegExp][] = [
      [['push', join(folder, 'cut')], ADMIN, 1, /^spotlight: .*cut: truncated/],
      [['push', join(folder, 'nothing')], ADMIN, 1, /nothing does not exist/],
      [['list'], 'not-a-key-of-anybody', 1, /The API key is not known/],
      [['list', '--url', 'ftp://x'], ADMIN, 2, /--url "ftp:\/\/x" must be the server's HTTP address/],
      [['list', '--url', 'http://127.0.0.1:1'], ADMIN, 1, /does not answer \(connection refused/],
      [['list', '--state', 'odd'], ADMIN, 1, /state must be one of draft/],
    ];
    for (const [args, key, status, text] of cases) {
      const ended = await run(args, key);
      assert.equal(ended.status, status, `${args.join(' ')}: ${ended.stderr}`);
      assert.match(ended.stderr, text);
      assert.ok(!/^\s+at /m.test(ended.stderr), ended.stderr);
    }
  }).timeout(60_000);
});
