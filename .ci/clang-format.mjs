// Checks (--check) or rewrites (--write) the C++ and CUDA sources with the pinned clang-format, so that every machine formats alike.
// Files come from git (tracked and new), which leaves fetched third-party trees and build folders out by construction.
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const root = join(import.meta.dirname, '..');
const clangFormat = createRequire(import.meta.url)('clang-format').getNativeBinary();

const listed = execFileSync(
  'git',
  [
    'ls-files',
    '-z',
    '--cached',
    '--others',
    '--exclude-standard',
    '--',
    ...['h', 'hpp', 'cc', 'cpp', 'cu', 'cuh'].map((end) => `*.${end}`),
  ],
  { cwd: root, encoding: 'utf8' },
);
const files = listed.split('\0').filter((path) => path !== '' && existsSync(join(root, path)));
if (files.length === 0) process.exit(0);

const mode = process.argv[2] === '--write' ? ['-i'] : ['--dry-run', '-Werror'];
const result = spawnSync(clangFormat, ['--style=file', ...mode, ...files], { cwd: root, stdio: 'inherit' });
process.exit(result.status ?? 1);
