import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { levelsFor } from './addon.js';

const V2 = 'cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3';
const V3 = `${V2} avx avx2 bmi1 bmi2 f16c fma abm movbe`;
const V4 = `${V3} avx512f avx512bw avx512cd avx512dq avx512vl`;

describe('levelsFor', () => {
  for (const [name, flags, expected] of [
    ['an AVX-512 machine', V4, ['x86-64-v4', 'x86-64-v3', 'x86-64-v2']],
    ['an AVX2 machine', V3, ['x86-64-v3', 'x86-64-v2']],
    ['an AVX2 machine with half of AVX-512', `${V3} avx512f`, ['x86-64-v3', 'x86-64-v2']],
    ['an old machine', V2, ['x86-64-v2']],
    ['AVX-512 without what lies below it', V4.replace('fma', ''), ['x86-64-v2']],
    ['no flags', '', []],
  ] as const) {
    it(`gives ${name} what it can run, best first`, () => {
      assert.deepEqual(levelsFor(new Set(flags.split(' '))), expected);
    });
  }
});

describe('a clone without the addon', () => {
  it('says ADDON_MISSING with what it tried and what to do, and serves types and errors', () => {
    const folder = mkdtempSync(join(tmpdir(), 'spotlight-addon-'));
    try {
      cpSync(import.meta.dirname, join(folder, 'dist'), { recursive: true });
      const script = `
        import('${join(folder, 'dist', 'index.js')}').then(async ({ createEngine, DEFAULT_ATTENTION }) => {
          await createEngine({ model: { kind: 'dummy', shape: 'tiny-llama' }, blocks: 1, attention: DEFAULT_ATTENTION });
        }).catch((error) => process.stdout.write(error.code + ' ' + error.message));`;
      const { stdout } = spawnSync(process.execPath, ['-e', script], { encoding: 'utf8' });
      assert.match(stdout, /^ADDON_MISSING /);
      assert.match(stdout, /npm run build -w cuda/);
      assert.ok(stdout.includes(`${join(folder, 'build', 'Release', 'spotlight.node')}: not there`), stdout);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
