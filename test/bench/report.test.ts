import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import type { BenchLine } from './bench.js';
import { attentionTables, merged, stepTables, withTables } from './report.js';
import { README, readResults } from './results.js';

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

describe('the README', () => {
  it('shows the results that are kept: npm run bench -- results', () => {
    const text = readFileSync(README, 'utf8');
    assert.ok(text.includes('<!-- bench attention.') && text.includes('<!-- bench e2e.'));
    assert.equal(withTables(text, readResults()), text);
  });
});
