// What a training shows and keeps besides its artifact: bar, log, plot, and the command line.
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ConfigError } from '../config/config.js';
import { loadTrainConfig, trainHelp } from './config.js';
import type { TrainEvent } from './events.js';
import { lossPlot, runningMean } from './loss-plot.js';
import { bar, clock, progress } from './progress.js';
import { TrainingLog } from './training-log.js';

const step = (number: number, loss: number): TrainEvent & { event: 'step' } => ({
  event: 'step',
  step: number,
  loss,
  learningRate: 0.001,
  tokens: 100,
  seconds: 2,
  captureSeconds: 1.5,
  trainSeconds: 0.5,
});
/** Back to the line's start, and the line emptied. */
const REDRAW = '\r\x1b[K';
const START: TrainEvent = {
  event: 'start',
  model: 'm',
  fingerprint: 'f',
  device: 'cpu',
  threads: 1,
  encoder: 'mlp',
  bits: 64,
  layers: 2,
  steps: 10,
  step: 0,
  tokensAStep: 100,
  texts: 5,
  corpusDigest: 'd',
};

describe('progress', () => {
  it('redraws one line on a terminal, with loss, pace and what is left', () => {
    let shown = '';
    const say = progress({ isTTY: true, write: (text) => (shown += text) });
    say(START);
    say(step(1, 2));
    say(step(2, 1));
    assert.equal(shown.split('\n').length, 2);
    assert.ok(shown.endsWith(`${REDRAW}step 2/10 ${bar(2, 10)} loss 1.9000  50 tokens/s  ETA 00:16`), shown);
    say({ event: 'stopped', step: 2, checkpoint: 'c' });
    assert.ok(shown.includes(`${REDRAW}stopped after step 2;`) && shown.endsWith('--resume\n'));
  });

  it('writes a line every ten seconds elsewhere', () => {
    let shown = '';
    let now = 0;
    const say = progress({ write: (text) => (shown += text) }, () => now);
    say(START);
    for (let i = 1; i <= 9; i++) {
      say(step(i, 1));
      now += 3000;
    }
    assert.deepEqual(
      [...shown.matchAll(/step (\d+)\/10/g)].map((match) => match[1]),
      ['1', '5', '9'],
    );
  });

  it('knows clocks and bars', () => {
    assert.equal(clock(59.6), '01:00');
    assert.equal(clock(3661), '1:01:01');
    assert.equal(bar(0, 5), `[${'.'.repeat(24)}]`);
    assert.equal(bar(5, 5), `[${'#'.repeat(24)}]`);
  });
});

describe('TrainingLog', () => {
  it('drops what came after the checkpoint and a half line of a killed process', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'spotlight-log-'));
    try {
      const path = join(folder, 'a.log.jsonl');
      const first = await TrainingLog.open(path, 0);
      for (const event of [START, step(1, 3), step(2, 2), step(3, 1)]) first.add(event);
      await writeFile(path, `${await readFile(path, 'utf8')}{"event":"step","st`);
      const second = await TrainingLog.open(path, 2);
      assert.deepEqual(second.losses, [
        { step: 1, loss: 3 },
        { step: 2, loss: 2 },
      ]);
      second.add(step(3, 1));
      const events = (await readFile(path, 'utf8')).trim().split('\n');
      assert.deepEqual(
        events.map((line) => (JSON.parse(line) as TrainEvent).step),
        [0, 1, 2, 3],
      );
      assert.equal((await TrainingLog.open(path, 0)).losses.length, 0);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });
});

describe('lossPlot', () => {
  it('draws every step and their running mean inside the picture', () => {
    const points = Array.from({ length: 40 }, (_, i) => ({ step: i + 1, loss: 2 / (i + 1) }));
    const svg = lossPlot(points, 'a <b> & c');
    assert.match(svg, /a &#60;b&#62; &#38; c/);
    const lines = [...svg.matchAll(/<polyline[^>]*points="([^"]*)"/g)].map((match) =>
      (match[1] ?? '').split(' '),
    );
    assert.deepEqual(
      lines.map((line) => line.length),
      [40, 40],
    );
    for (const [x = Number.NaN, y = Number.NaN] of lines.flat().map((pair) => pair.split(',').map(Number)))
      assert.ok(x >= 56 && x <= 704 && y >= 32 && y <= 320, `${x},${y}`);
    assert.ok(Math.abs((runningMean(points)[39]?.loss ?? 0) - 0.05) < 0.15);
    assert.match(lossPlot([], 'none'), /<\/svg>/);
  });
});

describe('loadTrainConfig', () => {
  it('takes flags over the recipe, and keeps what is not given open', () => {
    const config = loadTrainConfig(
      '--corpus a --corpus b --out o.safetensors --bits 64 --seq 512 --dense-layers 0-1,5 --resume'.split(
        ' ',
      ),
    );
    assert.deepEqual(config.corpus, ['a', 'b']);
    assert.deepEqual(config.recipe, { bits: 64, sequence: 512, denseLayers: [0, 1, 5] });
    assert.equal(config.resume, true);
    assert.equal(config.checkpointEveryMs, 60_000);
  });

  it('takes what a training scores and pairs by', () => {
    const recipe = (flags: string): unknown =>
      loadTrainConfig(`--corpus a --out o.safetensors ${flags}`.split(' ')).recipe;
    assert.deepEqual(recipe('--keys soft --key-gamma 64 --sharpness 1 --top 64 --other 192 --border 0'), {
      signKeys: false,
      keyGamma: 64,
      sharpness: 1,
      top: 64,
      other: 192,
      border: 0,
    });
    assert.deepEqual(recipe('--keys signs'), { signKeys: true });
    assert.throws(() => recipe('--keys hard'), /--keys: "hard"/);
  });

  it('names every bad flag at once', () => {
    assert.throws(
      () => loadTrainConfig('--steps 0 --encoder lsh --lr=-1'.split(' ').concat('--dense-layers', '3-1')),
      (error: unknown) => {
        assert.ok(error instanceof ConfigError);
        for (const part of [
          /--steps: "0"/,
          /--lr: "-1"/,
          /--encoder: "lsh"/,
          /--corpus:/,
          /--out:/,
          /--dense-layers/,
        ])
          assert.match(error.message, part);
        return true;
      },
    );
    assert.throws(() => loadTrainConfig(['--stepps', '1']), /stepps/);
  });

  it('helps with every flag', () => {
    for (const flag of ['--corpus', '--encoder', '--resume', '--json', '--seq', '--validation'])
      assert.match(trainHelp(), new RegExp(`^  ${flag}\\b`, 'm'));
  });
});
