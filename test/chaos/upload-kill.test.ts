// The control plane killed with -9 while an artifact is pushed to it: at several points of the upload, and when the last byte has just
// arrived. The push goes on from what the server kept, and the registry ends with one whole artifact and one line of who pushed it.
import assert from 'node:assert/strict';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { AUDIT_ENTRY } from '@spotlight/control-plane/admin/shapes.js';
import { AdminClient } from '@spotlight/control-plane/cli/admin-client.js';
import { push } from '@spotlight/control-plane/cli/artifact-push.js';
import { AdminDoor, eventually } from '../e2e/admin-door.js';
import type { ArtifactFile } from '@spotlight/control-plane/artifacts/artifact-file.fixture.js';
import { artifactFile } from '@spotlight/control-plane/artifacts/artifact-file.fixture.js';
import { Child } from './child.js';
import { freePort } from './free-port.js';

const SERVE = fileURLToPath(import.meta.resolve('@spotlight/control-plane/cli/main.js'));
const WORKER = fileURLToPath(new URL('./joining-worker.main.js', import.meta.url));
const RANGE_BYTES = 256 * 1024;

describe('the control plane killed with -9 during an upload', () => {
  let dataDir: string;
  let ports: readonly [http: number, grpc: number];
  let artifact: ArtifactFile;
  let file: string;
  let server: Child | undefined;
  let worker: Child | undefined;

  before(async () => {
    dataDir = await mkdtemp(join(tmpdir(), 'spotlight-upload-kill-'));
    ports = [await freePort(), await freePort()];
    artifact = await artifactFile(11, { layers: Array.from({ length: 12 }, (_, layer) => layer) });
    file = join(dataDir, 'artifact.safetensors');
    await writeFile(file, artifact.bytes);
  });
  after(async () => {
    await server?.kill();
    await worker?.kill();
    await rm(dataDir, { recursive: true, force: true });
  });

  async function start(): Promise<void> {
    server = await Child.start(SERVE, [
      ...[
        'serve',
        '--json',
        '--workers',
        '0',
        '--http-port',
        String(ports[0]),
        '--grpc-port',
        String(ports[1]),
      ],
      ...['--data', join(dataDir, 'data'), '--log-level', 'fatal'],
    ]);
  }

  it('costs what was on its way, and nothing else', async () => {
    await start();
    worker = await Child.start(WORKER, ['w', `127.0.0.1:${ports[1]}`, '1']);
    const url = `http://127.0.0.1:${ports[0]}`;
    const door = new AdminDoor(url);
    // The model must be known before an artifact of it is taken, also after a kill.
    await eventually(async () => {
      const { body } = await door.ask('GET', 'models');
      return (body as { models: unknown[] }).models[0];
    }, 'the model');

    const size = artifact.bytes.length;
    const killAt = [size / 4, size / 2, size];
    let restarting: Promise<void> = Promise.resolve();
    let kills = 0;
    const offsets: number[] = [];
    const { created } = await push(new AdminClient({ url }), file, {
      parent: undefined,
      rangeBytes: RANGE_BYTES,
      patienceMs: 60_000,
      onTrouble: () => undefined,
      onProgress: (offset) => {
        offsets.push(offset);
        const next = killAt[kills];
        if (next === undefined || offset < next) return;
        kills++;
        restarting = restarting.then(() => server?.kill()).then(start);
      },
    });
    await restarting;
    assert.equal(created, true);
    assert.equal(kills, killAt.length);
    assert.ok(
      offsets.every((offset, i) => offset >= (offsets[i - 1] ?? 0)),
      `an offset went back: ${offsets.join(' ')}`,
    );

    // Acknowledged is acknowledged, whatever the server lived through since.
    const shown = await door.show(artifact.digest);
    assert.equal(shown.size, size);
    assert.ok((await door.download(artifact.digest)).bytes.equals(artifact.bytes));
    const { body } = await door.ask('GET', `audit?object=${artifact.digest}`);
    const actions = (body as { entries: unknown[] }).entries.map((entry) => AUDIT_ENTRY.parse(entry).action);
    assert.deepEqual(actions, ['artifact.create']);
    assert.deepEqual(await readdir(join(dataDir, 'data', 'artifacts', 'uploads')), []);
  }).timeout(180_000);
});
