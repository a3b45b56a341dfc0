// Uploads over real HTTP: in ranges, broken off, taken over, and every bad input told by its code with nothing left behind.
import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { ADMITTED, UPLOAD } from '@spotlight/control-plane/admin/shapes.js';
import { artifactFile } from '@spotlight/control-plane/artifacts/artifact-file.fixture.js';
import type { Answer } from './admin-door.js';
import { AdminDoor, eventually, refused } from './admin-door.js';
import type { Gateway } from './gateway.js';
import { START_MS, startGateway } from './gateway.js';

describe('artifact uploads', () => {
  let gateway: Gateway;
  let door: AdminDoor;

  before(async function () {
    this.timeout(START_MS);
    gateway = await startGateway({ maxArtifact: '1MiB' });
    door = new AdminDoor(gateway.http);
    // Its model is what artifacts are held against.
    await gateway.worker({ workerId: 'w1' });
  });
  after(() => gateway.close());

  const leftovers = (): Promise<string[]> =>
    readdir(join(gateway.dataDir, 'artifacts', 'uploads')).catch(() => []);

  it('takes an upload in ranges, from where it stands', async () => {
    const artifact = await artifactFile(4);
    const { length } = artifact.bytes;
    const begin = (): Promise<Answer> =>
      door.ask('POST', 'artifacts/uploads', { size: length, digest: artifact.digest });
    const upload = UPLOAD.parse((await begin()).body);
    assert.equal(upload.offset, 0);
    const put = (from: number, to: number): Promise<Answer> =>
      door.ask('PUT', `artifacts/uploads/${upload.id}`, artifact.bytes.subarray(from, to), {
        'upload-offset': String(from),
      });
    assert.equal(UPLOAD.parse((await put(0, 50_000)).body).offset, 50_000);
    await refused(put(0, 10), 409, 'offset_mismatch', /has 50000 bytes .* send what follows byte 50000/);
    await refused(put(60_000, 60_010), 409, 'offset_mismatch', /begins at 60000/);
    await refused(
      door.ask('POST', `artifacts/uploads/${upload.id}/complete`),
      400,
      'upload_incomplete',
      new RegExp(`has 50000 of ${length} bytes`),
    );
    assert.deepEqual(UPLOAD.parse((await begin()).body), { ...upload, offset: 50_000 });
    await refused(
      door.ask('PUT', `artifacts/uploads/${upload.id}`, Buffer.alloc(length), { 'upload-offset': '50000' }),
      400,
      'upload_too_long',
      /goes beyond/,
    );
    await put(50_000, length);
    const done = await door.ask('POST', `artifacts/uploads/${upload.id}/complete`);
    assert.equal(done.status, 201, done.message);
    assert.equal(ADMITTED.parse(done.body).artifact.digest, artifact.digest);
    await refused(
      door.ask('GET', `artifacts/uploads/${upload.id}`),
      404,
      'upload_not_found',
      /is complete, or was dropped/,
    );
    assert.deepEqual(await leftovers(), []);
  });

  it('keeps what came of a range whose connection broke, and lets a new one take over a dead one', async () => {
    const artifact = await artifactFile(5);
    const { length } = artifact.bytes;
    const { body } = await door.ask('POST', 'artifacts/uploads', { size: length, digest: artifact.digest });
    const { id } = UPLOAD.parse(body);
    const path = `artifacts/uploads/${id}`;
    const offset = async (): Promise<number> => UPLOAD.parse((await door.ask('GET', path)).body).offset;

    const broken = door.half(path, 0, length, artifact.bytes.subarray(0, 70_000));
    await eventually(async () => ((await offset()) === 70_000 ? true : undefined), 'the first bytes');
    broken.destroy();

    // This one stays open and sends no more, as a client does that lost its network.
    const dead = door.half(path, 70_000, length - 70_000, artifact.bytes.subarray(70_000, 90_000));
    await eventually(async () => ((await offset()) === 90_000 ? true : undefined), 'more bytes');
    const rest = await door.ask('PUT', path, artifact.bytes.subarray(90_000), { 'upload-offset': '90000' });
    assert.equal(UPLOAD.parse(rest.body).offset, length);
    dead.destroy();
    assert.equal((await door.ask('POST', `${path}/complete`)).status, 201);
    assert.ok((await door.download(artifact.digest)).bytes.equals(artifact.bytes));
  });
  it('refuses bad bytes by name, with nothing left behind', async () => {
    const before = (await door.ask('GET', 'artifacts')).body;
    const foreign = await artifactFile(6, { fingerprint: 'f2'.repeat(32) });
    const wide = await artifactFile(6, { headDim: 128 });
    const deep = await artifactFile(6, { layers: [30] });
    const odd = await artifactFile(6, { metadata: { note: 'a\0b' } });
    await refused(
      door.push(foreign),
      400,
      'artifact_mismatch',
      /made for model f2f2f2f2f2f2, which .* served here: fake-135m/,
    );
    await refused(door.push(wide), 400, 'artifact_mismatch', /has head_dim 128, and model fake-135m has 64/);
    await refused(
      door.push(deep),
      400,
      'artifact_mismatch',
      /codes for layer 30, and model fake-135m has 30 layers/,
    );
    await refused(door.push(odd), 400, 'artifact_corrupt', /the metadata entry "note" is no plain text/);

    const good = await artifactFile(2);
    const nan = Buffer.from(good.bytes);
    nan.writeUInt16LE(0x7fc0, nan.length - 2);
    await refused(door.push({ bytes: nan }), 400, 'artifact_corrupt', /value \d+ is NaN or infinite/);
    await refused(door.push({ bytes: good.bytes.subarray(0, -7) }), 400, 'artifact_corrupt', /truncated/);
    await refused(door.push({ bytes: Buffer.alloc(100) }), 400, 'artifact_corrupt', /header is not JSON/);
    await refused(
      door.push(good, `?digest=${'0'.repeat(64)}`),
      400,
      'digest_mismatch',
      /push the file again/,
    );
    await refused(
      door.push({ bytes: Buffer.alloc(2 ** 20 + 1) }),
      400,
      'artifact_too_large',
      /--max-artifact/,
    );
    await refused(door.ask('POST', 'artifacts', {}), 400, 'unsupported_media_type', /octet-stream/);
    await refused(door.push({ bytes: Buffer.alloc(0) }), 400, 'length_required', /Content-Length/);
    await refused(door.push(good, '?digest=short'), 400, 'invalid_value', /digest/);
    await refused(
      door.ask('POST', 'artifacts/uploads', { size: 2 ** 30, digest: good.digest }),
      400,
      'artifact_too_large',
      /takes 1048576/,
    );

    const other = await artifactFile(7);
    const announced = { size: other.bytes.length, digest: other.digest };
    const { id } = UPLOAD.parse((await door.ask('POST', 'artifacts/uploads', announced)).body);
    const swapped = Buffer.from(other.bytes);
    swapped.writeUInt16LE(0x3f80, swapped.length - 2);
    await door.ask('PUT', `artifacts/uploads/${id}`, swapped, { 'upload-offset': '0' });
    await refused(
      door.ask('POST', `artifacts/uploads/${id}/complete`),
      400,
      'digest_mismatch',
      /have the digest/,
    );
    await refused(door.ask('GET', `artifacts/uploads/${id}`), 404, 'upload_not_found', /dropped/);

    assert.deepEqual((await door.ask('GET', 'artifacts')).body, before);
    assert.deepEqual(await leftovers(), []);
  });
});
