// A training that is killed, stopped and resumed ends in the bytes of one that was not: in processes, as users run them.
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { access, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { TrainEvent } from './events.js';

const ENTRY = fileURLToPath(new URL('./main.js', import.meta.url));
const STEPS = 6;

interface Run {
  readonly code: number | null;
  readonly events: readonly TrainEvent[];
  readonly stderr: string;
}

describe('a training process', function () {
  this.timeout(120_000);
  let folder: string;
  const running = new Set<ChildProcess>();
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'spotlight-resume-'));
    const words = Array.from({ length: 12_000 }, (_, i) => `word${(i * i) % 257}`);
    await writeFile(join(folder, 'corpus.txt'), words.join(' '));
  });
  after(async () => {
    for (const child of running) child.kill('SIGKILL');
    await rm(folder, { recursive: true, force: true });
  });

  /** Runs to the end, or until `react` ends it at an event. */
  function train(
    out: string,
    flags: readonly string[],
    react: (event: TrainEvent, child: ChildProcess) => void = () => undefined,
  ): Promise<Run> {
    const args = [
      '--model',
      'dummy:smollm2-135m',
      '--dense-layers',
      '0-25',
      '--corpus',
      join(folder, 'corpus.txt'),
    ];
    const shape = ['--seq', '192', '--rows', '8', '--bits', '64', '--steps', String(STEPS), '--threads', '1'];
    const files = [
      '--out',
      join(folder, out),
      '--checkpoint-every',
      '0s',
      '--validation-texts',
      '1',
      '--json',
    ];
    const child = spawn(process.execPath, [ENTRY, ...args, ...shape, ...files, ...flags]);
    running.add(child);
    const events: TrainEvent[] = [];
    let stderr = '';
    child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
    createInterface(child.stdout).on('line', (line) => {
      const event = JSON.parse(line) as TrainEvent;
      events.push(event);
      react(event, child);
    });
    return new Promise((resolve) => {
      child.once('close', (code) => {
        running.delete(child);
        resolve({ code, events, stderr });
      });
    });
  }

  const digest = async (out: string): Promise<string> =>
    createHash('sha256')
      .update(await readFile(join(folder, out)))
      .digest('hex');

  const stepsOf = async (out: string): Promise<number[]> =>
    (await readFile(join(folder, out), 'utf8'))
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as TrainEvent)
      .flatMap((event) => (event.event === 'step' ? [event.step] : []));

  it('ends in the same bytes after kill -9 and Ctrl-C as without', async () => {
    const whole = await train('whole.safetensors', []);
    assert.equal(whole.code, 0, whole.stderr);
    const done = whole.events.at(-1);
    assert.ok(done?.event === 'artifact');
    assert.equal(done.digest, await digest('whole.safetensors'));

    const killed = await train('cut.safetensors', [], (event, child) => {
      if (event.event === 'step' && event.step === 3) child.kill('SIGKILL');
    });
    assert.equal(killed.code, null);
    const refused = await train('cut.safetensors', []);
    assert.equal(refused.code, 2);
    assert.match(
      refused.stderr,
      /cut\.checkpoint holds a training that was stopped: go on with it by --resume/,
    );
    const other = await train('cut.safetensors', ['--resume', '--seed', '5']);
    assert.equal(other.code, 1);
    assert.match(other.stderr, /its recipe is .*, this training's is/);

    const stopped = await train('cut.safetensors', ['--resume'], (event, child) => {
      if (event.event === 'step') child.kill('SIGINT');
    });
    assert.equal(stopped.code, 130, stopped.stderr);
    assert.equal(stopped.events.at(-1)?.event, 'stopped');

    const resumed = await train('cut.safetensors', ['--resume', '--threads', '2']);
    assert.equal(resumed.code, 0, resumed.stderr);
    assert.ok((resumed.events[0]?.step ?? 0) >= 3);
    assert.equal(await digest('cut.safetensors'), await digest('whole.safetensors'));
    assert.deepEqual(
      await stepsOf('cut.log.jsonl'),
      Array.from({ length: STEPS }, (_, i) => i + 1),
    );
    await assert.rejects(access(join(folder, 'cut.checkpoint')));
    assert.match(await readFile(join(folder, 'cut.loss.svg'), 'utf8'), /<polyline/);

    const again = await train('whole.safetensors', []);
    assert.equal(again.code, 2);
    assert.match(again.stderr, /whole\.safetensors is there already/);
  });

  it('says in a line what it cannot do', async () => {
    const nothing = await train('none.safetensors', ['--resume']);
    assert.equal(nothing.code, 2);
    assert.match(nothing.stderr, /^--resume: there is no .*none\.checkpoint to go on from/);
    const missing = await train('none.safetensors', ['--corpus', join(folder, 'nowhere')]);
    assert.equal(missing.code, 1);
    assert.match(missing.stderr, /nowhere: cannot be read/);
  });
});
