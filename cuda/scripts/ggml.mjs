// Brings ggml's source, with the JSON header that llama.cpp vendors, into the cache and prints its folder. The source rides
// inside the npm package node-llama-cpp as a git bundle of llama.cpp: `npm pack` fetches only that tarball (checked against the pinned digest), nothing of it is installed or run.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

const PACKAGE = 'node-llama-cpp';
const VERSION = '3.22.1';
const SHA512 = 'bltIipuWmc123H7tMIgDGKSsSrhmhlQYeVUC48XTjVW7XGJJiJJyCdlTMzQ/LiWoPkGDpcL4FviDpgw7qfTiDw==';

function fetchInto(target, scratch) {
  const run = (command, args) =>
    execFileSync(command, args, { cwd: scratch, stdio: ['ignore', 'pipe', 'inherit'], maxBuffer: 1 << 28 });
  process.stderr.write(`fetching ggml's source (${PACKAGE} ${VERSION}, 35 MB, once)\n`);
  // A nested npm must not inherit the outer script's workspace settings.
  const env = Object.fromEntries(
    Object.entries(process.env).filter(
      ([key]) => !/^npm_config_(workspace|workspaces|local_prefix|prefix)$/i.test(key),
    ),
  );
  execFileSync('npm', ['pack', '--silent', '--ignore-scripts', `${PACKAGE}@${VERSION}`], {
    cwd: scratch,
    env,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const tarball = join(scratch, `${PACKAGE}-${VERSION}.tgz`);
  const digest = createHash('sha512').update(readFileSync(tarball)).digest('base64');
  if (digest !== SHA512) throw new Error(`${PACKAGE}@${VERSION} has SHA-512 ${digest}, expected ${SHA512}`);
  run('tar', ['-xzf', tarball, 'package/llama/gitRelease.bundle']);
  run('git', ['clone', '--quiet', '--bare', 'package/llama/gitRelease.bundle', 'llama.git']);
  run('git', [
    '-C',
    'llama.git',
    'archive',
    '--format=tar',
    '--output=../ggml.tar',
    'HEAD',
    'ggml',
    'vendor/nlohmann',
  ]);
  run('tar', ['-xf', 'ggml.tar']);
  // The released tree leaves it out, and ggml's CMake configures it.
  writeFileSync(join(scratch, 'ggml', 'ggml.pc.in'), '');
  renameSync(join(scratch, 'vendor'), join(scratch, 'ggml', 'vendor'));
  if (!complete(target)) rmSync(target, { recursive: true, force: true });
  try {
    renameSync(join(scratch, 'ggml'), target);
  } catch (error) {
    if (!complete(target)) throw error; // another build was first
  }
}

function complete(folder) {
  return ['src/ggml.c', 'vendor/nlohmann/json.hpp'].every((path) => existsSync(join(folder, path)));
}

const cache = process.env.SPOTLIGHT_CACHE || join(homedir(), '.cache', 'spotlight');
const target = join(cache, `ggml-${VERSION}`);
if (!complete(target)) {
  mkdirSync(cache, { recursive: true });
  const scratch = mkdtempSync(join(cache, 'ggml-fetch-'));
  try {
    fetchInto(target, scratch);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}
process.stdout.write(`${target}\n`);
