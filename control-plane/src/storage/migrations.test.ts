// The schema and the migrations must not drift apart: drizzle-kit, asked for the next migration, has nothing to write.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

describe('migrations', function () {
  this.timeout(30_000);

  it('hold everything that the schema says', () => {
    const room = fileURLToPath(new URL('../..', import.meta.url));
    const out = mkdtempSync(join(tmpdir(), 'spotlight-migrations-'));
    try {
      cpSync(join(room, 'src/storage/migrations'), out, { recursive: true });
      const before = readdirSync(out);
      const kit = join(dirname(createRequire(import.meta.url).resolve('drizzle-kit')), 'bin.cjs');
      execFileSync(
        process.execPath,
        [
          kit,
          'generate',
          '--dialect',
          'postgresql',
          '--schema',
          join(room, 'src/storage/schema.ts'),
          '--out',
          out,
        ],
        { cwd: room, stdio: 'pipe' },
      );
      assert.deepEqual(readdirSync(out), before, 'run: npm run migrations -w control-plane -- --name WHAT');
    } finally {
      rmSync(out, { recursive: true });
    }
  });
});
