import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { BenchLine } from './bench.js';
import { evalLines } from './eval-tables.js';
import { attentionTables, merged, stepTables, withMarks, withTables } from './report.js';
import { PAGES, readResults } from './results.js';

const line = (name: string, metric: string, value: number): BenchLine => ({
  ...{ bench: 'x', case: name, metric, value, unit: '' },
});

describe('attentionTables', () => {
  it('has a row a metric and a column a context, in order, and blanks for what is missing', () => {
    const made = attentionTables([
      line('qwen2.5-7b 1x131072', 'spotlight', 12.34),
      line('qwen2.5-7b 1x32768', 'dense cuDNN', 24.16),
      line('qwen2.5-7b 1x32768', 'spotlight', 0.956),
      line('device', 'read bandwidth', 4),
    ]);
    assert.deepEqual(made.split('\n'), [
      '| qwen2.5-7b, batch 1, µs | 32K | 128K |',
      '|---|---|---|',
      '| dense, cuDNN | 24.2 |  |',
      '| Spotlight | 0.96 | 12.3 |',
    ]);
  });
  it('adds shapes and batches side by side, dense to ours', () => {
    const made = attentionTables([
      line('qwen2.5-7b 1x32768', 'dense cuDNN', 24),
      line('llama-3-8b 8x32768', 'dense cuDNN', 240),
      line('llama-3-8b 8x32768', 'spotlight, tail', 60),
    ]);
    assert.match(made, /\| llama-3-8b, batch 8 \| 240 → 60\.0 \(4\.00x\) \|/);
  });
});

describe('stepTables', () => {
  it('sorts steps by batch and context, with what is quoted of vLLM for that model alone', () => {
    const made = stepTables([
      line('qwen2.5-7b 8x131072', 'dense', 18),
      line('qwen2.5-7b 8x131072', 'spotlight', 6),
      line('qwen2.5-7b 1x32768', 'dense', 5.2),
      line('llama-3-8b 1x32768', 'dense', 5),
    ]);
    const rows = made.split('\n').slice(2);
    assert.match(rows[0] ?? '', /^\| 1 x 32K \| 5\.20 \| 5\.20 \|/);
    assert.match(rows[1] ?? '', /^\| 1 x 32K \| {2}\| 5\.00 \|/);
    assert.match(rows[2] ?? '', /^\| 8 x 128K \| 18\.1 \| 18\.0 \| 6\.00 \(3\.00x\) \|/);
  });
  it('shows prompts and serving where they were measured', () => {
    const made = stepTables([
      line('qwen2.5-7b prefill 32768', 'time to first token', 1.02),
      line('qwen2.5-7b prefill 32768', 'time to first token, no codes', 1),
      line('qwen2.5-7b prefill 32768', "codes' share", 2),
      line('qwen2.5-7b 64x1024', 'step, the engine alone', 6),
      line('qwen2.5-7b 64x1024', 'step, served', 6.2),
      line('qwen2.5-7b 64x1024', 'host overhead', 0.2),
    ]);
    assert.match(made, /\| 32K \| 1\.03 \| 1\.00 \| 1\.02 \| 2\.0% \| {2}\|/);
    assert.match(made, /\| qwen2\.5-7b 64x1024 \| 6\.00 \| 6\.20 \| 0\.20 \|/);
  });
});

describe('withTables', () => {
  const results = new Map([['e2e.gpu', [line('qwen2.5-7b 1x32768', 'dense', 5)]]]);
  it('makes what stands between marks anew, and only that', () => {
    const text = 'before\n<!-- bench e2e.gpu -->\nold\n<!-- bench end -->\nafter\n';
    const made = withTables(text, results);
    assert.ok(made.startsWith('before\n') && made.endsWith('after\n') && !made.includes('old'));
    assert.match(made, /1 x 32K/);
    assert.equal(withTables(made, results), made);
  });
  it('refuses results that are not there, and a mark without an end', () => {
    assert.throws(() => withTables('<!-- bench e2e.cpu -->\n<!-- bench end -->', results), /e2e\.cpu/);
    assert.throws(() => withTables('<!-- bench e2e.gpu -->\n', results), /no end/);
  });
});

describe('withMarks', () => {
  it('makes places at the end for tables that have none, once', () => {
    const once = withMarks('# A\n', ['eval-a.cpu', 'eval-b.cpu']);
    assert.match(
      once,
      /^# A\n\n## Results\n\n<!-- bench eval-a\.cpu -->\n<!-- bench end -->\n\n<!-- bench eval-b/,
    );
    assert.equal(withMarks(once, ['eval-a.cpu', 'eval-b.cpu']), once);
    assert.equal(withMarks(once, ['eval-c.cpu']).split('## Results').length, 2);
  });
});

describe('merged', () => {
  it('replaces what was measured again and keeps the rest in its place', () => {
    const kept = [line('a', 'm', 1), line('b', 'm', 2)];
    assert.deepEqual(merged(kept, [line('a', 'm', 3), line('c', 'm', 4)]), [
      line('a', 'm', 3),
      line('b', 'm', 2),
      line('c', 'm', 4),
    ]);
  });
});

describe('evaluations', () => {
  const row = {
    ...{ task: 'ppl', group: 'book.txt', metric: 'perplexity', method: 'quest', budget: 0.02, value: 25 },
    ...{ indexBits: 128, context: 8192, rows: 160, bytes: 2e6, equal: { tokens: 600, value: 20 } },
  };
  const rows = [row, { ...row, group: 'layer 1', task: 'iou', metric: 'IoU', detail: true }];
  const written = {
    command: 'spotlight eval --tasks ppl',
    artifact: 'ab'.repeat(32),
    device: 'cuda NVIDIA H200, sm_90',
  };
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'spotlight-eval-lines-'));
  });
  after(() => {
    rmSync(folder, { recursive: true });
  });

  it('are kept as lines that give the table of the terminal again, with the command above it', () => {
    const file = join(folder, 'out.json');
    writeFileSync(file, JSON.stringify({ ...written, rows }));
    const lines = evalLines('methods', file);
    assert.deepEqual(
      lines.map(({ bench, device, baseline, ratio }) => [bench, device, baseline, ratio]),
      [['eval-methods', 'NVIDIA H200', 20, 1.25]],
    );
    const text = withTables(
      '<!-- bench eval-methods.nvidia-h200 -->\n<!-- bench end -->\n',
      new Map([['eval-methods.nvidia-h200', JSON.parse(JSON.stringify(lines)) as BenchLine[]]]),
    );
    assert.match(text, /`spotlight eval --tasks ppl` \(artifact abababababab\):/);
    assert.match(text, /\| quest \| 2% \| 128 \| 160 \| 2 MB \| 25 \[20\] \|/);
  });

  it('are refused where the file is another', () => {
    const file = join(folder, 'other.json');
    writeFileSync(file, '{"rows":[]}');
    assert.throws(() => evalLines('methods', file), /other\.json: is not what/);
  });
});

describe('the pages', () => {
  it('show the results that are kept: npm run bench -- results', () => {
    const texts = PAGES.map((page) => readFileSync(page, 'utf8'));
    const all = texts.join('');
    assert.ok(all.includes('<!-- bench attention.') && all.includes('<!-- bench e2e.'));
    for (const text of texts) assert.equal(withTables(text, readResults()), text);
  });
});
