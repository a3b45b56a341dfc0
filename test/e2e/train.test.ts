// `spotlight train` on the default model: a few steps must lower the loss and find clearly more than the random projections it
// starts from, and what it writes must be an artifact that "spotlight artifact verify" takes.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const MAIN = fileURLToPath(import.meta.resolve('@spotlight/control-plane/cli/main.js'));
const TEXTS = fileURLToPath(new URL('../../../worker/src', import.meta.url));

interface LogLine {
  readonly event: string;
  readonly loss?: number;
  readonly iou?: number;
  readonly mass?: number;
  readonly digest?: string;
}

describe('spotlight train', function () {
  this.timeout(180_000);
  let folder: string;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'spotlight-train-'));
  });
  after(() => rm(folder, { recursive: true, force: true }));

  it('teaches the default model codes that find more than random ones', async () => {
    const out = join(folder, 'codes.safetensors');
    const run = (...args: string[]): Promise<{ stdout: string }> =>
      promisify(execFile)(process.execPath, [MAIN, ...args]);
    const size = ['--seq', '512', '--steps', '5', '--updates', '2', '--rows', '32'];
    const layers = ['--dense-layers', '0-19', '--validation-texts', '2'];
    const { stdout } = await run('train', '--corpus', TEXTS, '--out', out, ...size, ...layers, '--json');
    const events = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as LogLine);
    const of = (name: string): LogLine[] => events.filter(({ event }) => event === name);
    const [before, after] = of('quality');
    const steps = of('step');
    assert.ok((steps.at(-1)?.loss ?? 1) < 0.8 * (steps[0]?.loss ?? 0), JSON.stringify(steps));
    assert.ok((after?.iou ?? 0) > (before?.iou ?? 1) + 0.08, `${before?.iou ?? ''} -> ${after?.iou ?? ''}`);
    assert.ok((after?.mass ?? 0) > (before?.mass ?? 1));

    const verified = await run(
      'artifact',
      'verify',
      out,
      '--json',
      '--digest',
      of('artifact')[0]?.digest ?? '',
    );
    const { layers: coded, bits } = JSON.parse(verified.stdout) as { layers: number[]; bits: number };
    assert.deepEqual(
      coded,
      Array.from({ length: 10 }, (_, i) => 20 + i),
    );
    assert.equal(bits, 128);
    assert.equal(
      (await readFile(join(folder, 'codes.log.jsonl'), 'utf8')).trim().split('\n').length,
      events.length,
    );
  });
});
