// The registry over real HTTP and gRPC on the embedded database, with scripted workers: an artifact's way from a push to its deletion,
// what a worker came with, what is refused on that way, and who did what.
import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { credentials, status } from '@grpc/grpc-js';
import {
  ADMITTED,
  ARTIFACT,
  AUDIT_ENTRY,
  DEPLOYMENT,
  VERDICT,
} from '@spotlight/control-plane/admin/shapes.js';
import type { FetchArtifactResponse } from '@spotlight/proto';
import { FetchArtifactRequest, FleetClient } from '@spotlight/proto';
import type { ArtifactFile } from '@spotlight/control-plane/artifacts/artifact-file.fixture.js';
import { artifactFile } from '@spotlight/control-plane/artifacts/artifact-file.fixture.js';
import type { FakeWorker } from '../fakes/worker.js';
import { FAKE_MODEL } from '../fakes/worker.js';
import type { Answer } from './admin-door.js';
import { AdminDoor, eventually, refused } from './admin-door.js';
import type { Gateway } from './gateway.js';
import { START_MS, startGateway } from './gateway.js';

const ADMIN = 'the-admin-key-of-this-test';
const TOKEN = 'a-join-token-of-this-test';

describe('artifact registry', () => {
  let gateway: Gateway;
  let worker: FakeWorker;
  let shipped: ArtifactFile;
  let good: ArtifactFile;
  let bad: ArtifactFile;
  let door: AdminDoor;

  before(async function () {
    this.timeout(START_MS);
    [shipped, good, bad] = await Promise.all([
      artifactFile(1),
      artifactFile(2, { layers: [0, 29] }),
      artifactFile(3),
    ]);
    gateway = await startGateway(
      { auth: 'required' },
      { SPOTLIGHT_ADMIN_KEY: ADMIN, SPOTLIGHT_JOIN_TOKENS: TOKEN },
    );
    door = new AdminDoor(gateway.http, ADMIN);
    worker = await gateway.worker({
      workerId: 'w1',
      joinToken: TOKEN,
      artifactDigest: shipped.digest,
      artifactBytes: shipped.bytes,
      quality: (digest) => (digest === bad.digest ? 0.1 : digest === shipped.digest ? 0.5 : 0.45),
    });
  });
  after(() => gateway.close());

  it('has a deployment with what its first worker came with active, bytes and all', async () => {
    const adopted = await eventually(async () => {
      const { status: got, body } = await door.ask('GET', `artifacts/${shipped.digest}`);
      return got === 200 && ARTIFACT.parse(body).size !== null ? ARTIFACT.parse(body) : undefined;
    }, 'the bytes of the shipped artifact');
    assert.equal(adopted.state, 'active');
    assert.equal(adopted.source, 'worker:w1');
    assert.deepEqual(adopted.deployments, [FAKE_MODEL]);
    assert.deepEqual(adopted.layers, [0]);
    const { body } = await door.ask('GET', `deployments/${FAKE_MODEL}`);
    const deployment = DEPLOYMENT.parse(body);
    assert.equal(deployment.activeArtifact, shipped.digest);
    assert.equal(deployment.workers, 1);
    assert.deepEqual(deployment.settings, { backend: 'spotlight' });
  });

  it('takes a push in one request, shows, lists and gives it back', async () => {
    const parent = 'aa'.repeat(32);
    const answer = await door.push(good, `?digest=${good.digest}&parent=${parent}`);
    assert.equal(answer.status, 201, answer.message);
    const { created, artifact } = ADMITTED.parse(answer.body);
    assert.equal(created, true);
    assert.deepEqual([artifact.digest, artifact.state, artifact.parent], [good.digest, 'draft', parent]);
    assert.deepEqual([artifact.layers, artifact.bits, artifact.size], [[0, 29], 128, good.bytes.length]);
    assert.deepEqual(await door.show(good.digest.slice(0, 10)), artifact);

    const listed = (await door.ask('GET', 'artifacts?limit=1')).body as { artifacts: unknown[] };
    assert.deepEqual(listed.artifacts, [artifact]);
    const rest = (await door.ask('GET', `artifacts?after=${good.digest}`)).body as {
      artifacts: { digest: string }[];
    };
    assert.deepEqual(
      rest.artifacts.map(({ digest }) => digest),
      [shipped.digest],
    );

    const whole = await door.download(good.digest);
    assert.ok(whole.bytes.equals(good.bytes));
    const part = await door.download(good.digest, 'bytes=1000-');
    assert.equal(part.range, `bytes 1000-${good.bytes.length - 1}/${good.bytes.length}`);
    assert.ok(part.bytes.equals(good.bytes.subarray(1000)));
  });
  it('answers the same push again with what is there', async () => {
    const answer = await door.push(good);
    assert.equal(ADMITTED.parse(answer.body).created, false);
    await refused(
      door.push(good, `?digest=${good.digest}`),
      409,
      'artifact_exists',
      /is here already, as draft/,
    );
  });

  it('gives workers the bytes by digest from any byte, for the join token alone', async () => {
    const client = new FleetClient(gateway.grpc, credentials.createInsecure());
    const fetchBytes = async (
      digest: string,
      offset: number,
      joinToken = TOKEN,
    ): Promise<[Buffer, number]> => {
      const chunks: Buffer[] = [];
      let total = -1;
      const call = client.fetchArtifact(
        FetchArtifactRequest.fromPartial({ digest, offset: BigInt(offset), joinToken }),
      );
      for await (const message of call) {
        const { chunk, totalBytes } = message as FetchArtifactResponse;
        chunks.push(chunk);
        total = Number(totalBytes);
      }
      return [Buffer.concat(chunks), total];
    };
    const { length } = good.bytes;
    for (const offset of [0, 12_345, length]) {
      const [bytes, total] = await fetchBytes(good.digest, offset);
      assert.ok(bytes.equals(good.bytes.subarray(offset)));
      assert.equal(total, length);
    }
    await assert.rejects(fetchBytes(good.digest, length + 1), { code: status.INVALID_ARGUMENT });
    await assert.rejects(fetchBytes('00'.repeat(32), 0), { code: status.NOT_FOUND });
    await assert.rejects(fetchBytes(good.digest, 0, 'another-token-here'), { code: status.UNAUTHENTICATED });
    await assert.rejects(fetchBytes(good.digest, 0, ''), { code: status.UNAUTHENTICATED });
    client.close();
  });

  it('validates by measuring on a worker, against the active artifact', async () => {
    const { body } = await door.ask('POST', `artifacts/${good.digest}/validate`, {});
    const verdict = VERDICT.parse(body);
    assert.equal(verdict.passed, true);
    assert.equal(verdict.deployment, FAKE_MODEL);
    assert.ok(Math.abs((verdict.baseline?.iou ?? 0) - 0.5) < 1e-6);
    assert.equal(verdict.artifact.state, 'validated');
    assert.ok(Math.abs((verdict.artifact.quality?.keptMass ?? 0) - 0.45) < 1e-6);
    assert.deepEqual(worker.validated, [good.digest, shipped.digest]);
  });

  it('rejects one that falls short, unless it is forced, and tells who did', async () => {
    await door.push(bad);
    const first = VERDICT.parse((await door.ask('POST', `artifacts/${bad.digest}/validate`, {})).body);
    assert.equal(first.passed, false);
    assert.equal(first.artifact.state, 'rejected');
    assert.match(first.reason, /IoU 0\.100 is below 0\.400, 80% of the active artifact's 0\.500/);
    const forced = VERDICT.parse(
      (await door.ask('POST', `artifacts/${bad.digest}/validate`, { force: true })).body,
    );
    assert.deepEqual([forced.passed, forced.artifact.state], [true, 'validated']);
    assert.match(forced.artifact.quality?.forcedOver ?? '', /IoU 0\.100 is below/);
    const { body } = await door.ask('GET', `audit?object=${bad.digest}`);
    const { entries } = body as { entries: unknown[] };
    const lines = entries.map((entry) => AUDIT_ENTRY.parse(entry));
    assert.deepEqual(
      lines.map(({ action, actor }) => [action, actor]),
      [
        ['artifact.pass', 'admin'],
        ['artifact.fail', 'admin'],
        ['artifact.create', 'admin'],
      ],
    );
    assert.match(lines[0]?.reason ?? '', /^forced, though IoU/);
  });

  it('neither deletes nor retires what a deployment answers with', async () => {
    for (const [method, path] of [
      ['DELETE', `artifacts/${shipped.digest}`],
      ['POST', `artifacts/${shipped.digest}/retire`],
    ] as const) {
      await refused(
        door.ask(method, path),
        400,
        'artifact_active',
        /is active: roll out another in its place first/,
      );
    }
    assert.equal((await door.show(shipped.digest)).state, 'active');
  });

  it('retires for ever, and deletes what is not in use with its bytes', async () => {
    const retired = await door.ask('POST', `artifacts/${bad.digest}/retire`, { reason: 'random weights' });
    assert.deepEqual(
      [ARTIFACT.parse(retired.body).state, ARTIFACT.parse(retired.body).reason],
      ['retired', 'random weights'],
    );
    await refused(
      door.ask('POST', `artifacts/${bad.digest}/validate`, { force: true }),
      400,
      'artifact_retired',
      /cannot be validated/,
    );
    await refused(
      door.ask('POST', `artifacts/${bad.digest}/retire`),
      400,
      'artifact_retired',
      /cannot be retired/,
    );
    assert.equal((await door.ask('DELETE', `artifacts/${bad.digest}`)).status, 204);
    await refused(door.ask('GET', `artifacts/${bad.digest}`), 404, 'artifact_not_found', /push it first/);
    const blobs = await readdir(join(gateway.dataDir, 'artifacts', 'blobs'));
    assert.ok(!blobs.some((name) => name.startsWith(bad.digest)));
    assert.equal(ADMITTED.parse((await door.push(bad)).body).artifact.state, 'draft');
  });

  it('rolls out neither a retired one, nor lets one be taken away from under a rollout', async () => {
    const retired = await artifactFile(8);
    await door.push(retired);
    await door.ask('POST', `artifacts/${retired.digest}/retire`);
    const start = (digest: string): Promise<Answer> => door.ask('POST', 'rollouts', { artifact: digest });
    await refused(start(retired.digest), 400, 'artifact_retired', /is retired: .* cannot be rolled out/);
    assert.deepEqual((await door.ask('GET', 'rollouts')).body, { rollouts: [] });

    const candidate = await artifactFile(9);
    await door.push(candidate);
    await door.ask('POST', `artifacts/${candidate.digest}/validate`, {});
    const started = await start(candidate.digest);
    assert.equal(started.status, 201, started.message);
    const { id } = started.body as { id: string };
    await refused(start(candidate.digest), 409, 'rollout_under_way', new RegExp(id));
    for (const [method, path] of [
      ['DELETE', `artifacts/${candidate.digest}`],
      ['POST', `artifacts/${candidate.digest}/retire`],
    ] as const) {
      await refused(door.ask(method, path), 400, 'artifact_in_use', new RegExp(`in use by rollout ${id}`));
    }
    assert.equal((await door.ask('POST', `rollouts/${id}/abort`, {})).status, 200);
    assert.equal((await door.show(shipped.digest)).state, 'active');
  });

  it('has every change in the audit log, in pages', async () => {
    const seen: string[] = [];
    let before: number | null = null;
    do {
      const page: Answer = await door.ask(
        'GET',
        `audit?limit=3${before === null ? '' : `&before=${before}`}`,
      );
      const { entries, next } = page.body as { entries: unknown[]; next: number | null };
      for (const entry of entries) {
        const { kind, object, action } = AUDIT_ENTRY.parse(entry);
        seen.push(`${kind} ${object.slice(0, 8)} ${action}`);
      }
      before = next;
    } while (before !== null);
    for (const line of [
      `deployment ${FAKE_MODEL.slice(0, 8)} deployment.create`,
      `deployment ${FAKE_MODEL.slice(0, 8)} deployment.activate`,
      `artifact ${shipped.digest.slice(0, 8)} artifact.bytes`,
      `artifact ${good.digest.slice(0, 8)} artifact.pass`,
      `artifact ${bad.digest.slice(0, 8)} artifact.retire`,
      `artifact ${bad.digest.slice(0, 8)} artifact.delete`,
    ]) {
      assert.equal(seen.filter((each) => each === line).length, 1, line);
    }
    await refused(door.ask('GET', 'audit?limit=0'), 400, 'invalid_value', /limit must be at least 1/);
    await refused(door.ask('GET', 'audit?who=me'), 400, 'unknown_parameter', /who is not a parameter/);
  });

  it('changes what may be changed of a deployment by hand', async () => {
    const changed = await door.ask('PATCH', `deployments/${FAKE_MODEL}`, {
      description: 'chat',
      leastQuality: 0.5,
    });
    const deployment = DEPLOYMENT.parse(changed.body);
    assert.deepEqual([deployment.description, deployment.leastQuality], ['chat', 0.5]);
    await refused(
      door.ask('PATCH', `deployments/${FAKE_MODEL}`, { leastQuality: 2 }),
      400,
      'invalid_value',
      /leastQuality/,
    );
    await refused(door.ask('GET', 'deployments/none'), 404, 'deployment_not_found', /"none"/);
  });

  it('is for keys of scope admin', async () => {
    for (const [method, path] of [
      ['GET', 'artifacts'],
      ['POST', 'artifacts/uploads'],
      ['GET', 'deployments'],
      ['GET', 'audit'],
      ['GET', 'openapi.json'],
    ] as const) {
      const { status: got } = await door.ask(method, path, undefined, { authorization: 'Bearer nonsense' });
      assert.equal(got, 401, path);
    }
  });

  it('says that no worker can validate when none is there', async () => {
    await gateway.dismiss();
    await refused(
      door.ask('POST', `artifacts/${good.digest}/validate`),
      503,
      'no_worker',
      /start one of its model/,
    );
  });
});
