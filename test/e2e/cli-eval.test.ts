// `spotlight eval` as a researcher runs it, on the default model with the artifact that ships: every task once on short texts, what its
// rows must hold whatever the figures, and the same answer twice.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { DERIVED_FROM, inspectArtifact } from '@spotlight/cuda';
import { SamplingParams } from '@spotlight/proto';
import type { DescribeResponse } from '@spotlight/proto';
import { recommendationOf } from '@spotlight/worker/artifact/recommendation.js';
import { WorkerProcess } from './worker-process.js';

const MAIN = fileURLToPath(import.meta.resolve('@spotlight/control-plane/cli/main.js'));
const LICENSE = fileURLToPath(new URL('../../../LICENSE', import.meta.url));

interface Row {
  readonly task: string;
  readonly group: string;
  readonly method: string;
  readonly metric: string;
  readonly value: number;
  readonly ratio?: number;
  readonly rows: number;
  readonly bytes: number;
  readonly detail?: true;
  readonly equal?: { readonly tokens: number; readonly value: number };
}

async function evaluate(
  ...flags: string[]
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const args = [MAIN, 'eval', ...flags];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  const [stdout, stderr, [code]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'exit') as Promise<[number | null]>,
  ]);
  return { code, stdout, stderr };
}

describe('spotlight eval', function () {
  this.timeout(300_000);
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'spotlight-eval-'));
  });
  after(() => {
    rmSync(folder, { recursive: true, force: true });
  });
  const at = (name: string): string => join(folder, name);
  const SMALL = ['--length', '256', '--min-tokens', '96', '--threads', '1'];

  it('runs every task, and beside each method exact top-k at as many bytes', async () => {
    const question = {
      context: 'The sky over Lisbon was green that day. '.repeat(20),
      input: 'What colour was the sky?',
    };
    writeFileSync(at('qa.jsonl'), `${JSON.stringify({ ...question, answers: ['green'] })}\n`);
    const sums = [1, 2, 3].map((n) => ({
      question: `${n} + ${n}`,
      choices: [String(2 * n), 'a horse'],
      answer: 'A',
    }));
    writeFileSync(at('mc.jsonl'), sums.map((line) => `${JSON.stringify(line)}\n`).join(''));
    const { code, stdout, stderr } = await evaluate(
      ...['--tasks', 'iou,ppl,needle,qa,fewshot', '--methods', 'dense,oracle,spotlight,h2o', ...SMALL],
      ...[
        '--texts',
        LICENSE,
        '--qa',
        at('qa.jsonl'),
        '--answer-tokens',
        '4',
        '--fewshot',
        at('mc.jsonl'),
        '--shots',
        '2',
      ],
      ...['--needle-kinds', 'single', '--needle-lengths', '256', '--needle-depths', '0.5'],
      ...['--json', at('out.json'), '--html', at('out.html')],
    );
    assert.equal(code, 0, stderr);
    const { command, rows } = JSON.parse(readFileSync(at('out.json'), 'utf8')) as {
      command: string;
      rows: Row[];
    };
    assert(command.startsWith('spotlight eval --tasks iou,ppl'), command);
    assert(stdout.startsWith(command) && readFileSync(at('out.html'), 'utf8').includes('IoU by layer'));
    const one = (task: string, method: string, metric: string): Row =>
      rows.find(
        (row) => row.task === task && row.method === method && row.metric === metric && row.detail !== true,
      ) ?? assert.fail(`${task} ${method} ${metric}`);

    const dense = one('ppl', 'dense', 'perplexity');
    assert(dense.value > 1 && dense.value < 40 && dense.ratio === 1);
    // 30 layers of 3 KV heads of 64: K and V of every token.
    assert.equal(dense.bytes, 30 * 3 * 256 * 256);
    for (const method of ['oracle', 'spotlight', 'h2o']) {
      const row = one('ppl', method, 'perplexity');
      assert((row.ratio ?? 0) > 0.97 && (row.ratio ?? 9) < 1.5, `${method} ${row.ratio ?? ''}`);
      assert(Math.abs(row.rows - 96) < 1, `${method} reads ${row.rows}`);
      assert(row.bytes < dense.bytes && row.equal !== undefined);
      assert(one('needle', method, 'question sparse').bytes > 0);
      assert(one('fewshot', method, 'accuracy').value >= 0);
      assert(one('qa', method, 'f1').value <= 1);
    }
    assert.equal(one('ppl', 'oracle', 'perplexity').equal?.value, one('ppl', 'oracle', 'perplexity').value);
    assert.equal(one('iou', 'oracle', 'IoU').value, 1);
    const { value: iou } = one('iou', 'spotlight', 'IoU');
    assert(iou > 0.2 && iou < 0.9, String(iou));
    assert(one('iou', 'spotlight', 'kept mass').value < one('iou', 'oracle', 'kept mass').value);
    assert.equal(
      rows.filter(
        ({ method, metric, group }) => method === 'h2o' && metric === 'IoU' && group.startsWith('layer'),
      ).length,
      30,
    );
  });

  it('gives the same bytes again, sampling methods among them', async () => {
    const flags = [
      '--tasks',
      'ppl',
      '--methods',
      'vattention,magicpig',
      '--texts',
      LICENSE,
      ...SMALL,
      '--length',
      '136',
    ];
    const [first, again] = [await evaluate(...flags, '--json', '-'), await evaluate(...flags, '--json', '-')];
    assert.equal(first.code, 0, first.stderr);
    assert(first.stdout.length > 200);
    assert.equal(first.stdout, again.stdout);
  });

  it('chooses settings within the bound and writes them as what a new artifact of the same weights recommends', async () => {
    const out = at('calibrated.safetensors');
    const { code, stdout, stderr } = await evaluate(
      ...['--calibrate', out, '--texts', LICENSE, '--length', '192', '--threads', '1'],
      ...['--min-tokens', '96', '--budget', '0.4', '--bound', '0.05', '--json', at('record.json')],
    );
    assert.equal(code, 0, stderr);
    const { artifacts, attention, attentionLayers, measured } = JSON.parse(
      readFileSync(at('record.json'), 'utf8'),
    ) as {
      artifacts: { from: string; to: string };
      attention: { layers: Record<string, { mode: string }> };
      attentionLayers: string;
      measured: { perplexityLoss: number };
    };
    assert.equal(Object.keys(attention.layers).length, 30);
    assert(measured.perplexityLoss <= 0.05);
    const { layers } = await import('@spotlight/worker/config/values.js');
    assert.deepEqual(layers(attentionLayers), attention.layers);
    const info = await inspectArtifact(out);
    assert.deepEqual([info.digest, info.metadata[DERIVED_FROM]], [artifacts.to, artifacts.from]);
    assert(stdout.includes(info.digest), stdout);
    assert.deepEqual(recommendationOf(info), attention);

    // Who evaluates that artifact is shown Spotlight by those settings, unless told not to.
    const flags = ['--tasks', 'ppl', '--methods', 'dense,spotlight', '--texts', LICENSE, '--length', '192'];
    const more = [
      '--artifact',
      out,
      '--threads',
      '1',
      '--no-equal-bytes',
      '--min-tokens',
      '16',
      '--json',
      '-',
    ];
    const methodsOf = async (...also: string[]) => {
      const ended = await evaluate(...flags, ...more, ...also);
      assert.equal(ended.code, 0, ended.stderr);
      return (JSON.parse(ended.stdout) as { rows: Row[] }).rows;
    };
    const rows = await methodsOf();
    assert.deepEqual(
      rows.map(({ method }) => method),
      ['dense', 'spotlight', 'spotlight+recommended'],
    );
    assert(Math.abs((rows[2]?.ratio ?? 0) - 1 - measured.perplexityLoss) < 1e-6, String(rows[2]?.ratio));
    assert.equal((await methodsOf('--no-recommended')).length, 2);

    // A worker that starts with it attends by them, and says so.
    for (const [flag, wanted] of [
      ['use', attention.layers],
      ['ignore', undefined],
    ] as const) {
      const worker = await WorkerProcess.start(['--artifact', out, '--attention-recommended', flag]);
      try {
        const { model } = await new Promise<DescribeResponse>((resolve, reject) => {
          worker.client.describe({}, (error, reply) => {
            if (error) reject(error);
            else resolve(reply);
          });
        });
        const settings = JSON.parse(model?.settings ?? '{}') as { layers?: object };
        assert.deepEqual(settings.layers, wanted);
        const prompt = { $case: 'text', value: 'One, two, three,' } as const;
        const { tokenIds } = await worker.run({
          prompt,
          sampling: SamplingParams.fromPartial({ temperature: 0, maxTokens: 2 }),
        });
        assert.equal(tokenIds.length, 2);
      } finally {
        await worker.end();
      }
    }
  });

  it('says in one line what is wrong with a command or a file', async () => {
    for (const [flags, code, message] of [
      [['--tasks', 'ppl'], 2, /^spotlight eval: --tasks ppl: give texts by --texts/],
      [['--texts', at('nowhere.txt'), '--tasks', 'ppl'], 1, /nowhere\.txt/],
      [
        ['--texts', LICENSE, '--tasks', 'ppl', '--methods', 'fast', '--quiet'],
        2,
        /no method is called "fast"; there are dense/,
      ],
    ] as const) {
      const ended = await evaluate(...flags);
      assert.equal(ended.code, code, ended.stderr);
      assert.match(ended.stderr, message);
      assert.equal(ended.stderr.trim().split('\n').length, 1, ended.stderr);
    }
  });
});
