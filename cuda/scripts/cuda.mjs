// Brings the CUDA 13.0 compiler, its headers and FlashInfer's into the cache as pinned Python packages, and prints the folder.
//   node scripts/cuda.mjs [--runtime] [PART]...     parts: toolkit cudnn flashinfer (all); --runtime also keeps cuBLASLt and cuDNN to run with
// The folder is laid out as a site-packages folder, because NVIDIA's libraries find each other by that layout. Of a wheel only what
// its part needs is unpacked: cuBLAS and cuDNN are 1.1 GB on disk whole, their headers 3 MB.
import { spawn, spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  statfsSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

const ROOT = 'cuda-13.0';
const HEADERS = '^nvidia/[^/]+/include/';
/** Each package: what of it a build needs and what a run needs (regular expressions of members), its size in MB and SHA-256. */
const PACKAGES = [
  {
    part: 'toolkit',
    name: 'nvidia-cuda-nvcc',
    version: '13.0.88',
    build: '^nvidia/cu13/',
    megabytes: 37,
    sha256: '56fe502eb77625a12f25172caa3cdddb4e4c8ba2c8c17dba44b164761b380f03',
  },
  {
    part: 'toolkit',
    name: 'nvidia-cuda-crt',
    version: '13.0.88',
    build: HEADERS,
    megabytes: 1,
    sha256: '2c8043c7c9e02492716426e9919fc78d2c5b3b2a7a768a88e952676b08aa55a4',
  },
  {
    part: 'toolkit',
    name: 'nvidia-nvvm',
    version: '13.0.88',
    build: '^nvidia/cu13/nvvm/',
    megabytes: 62,
    sha256: 'c5f41ffeb6466944a026dfa5317d7d85355c119bbec279205d22f1869d1054e0',
  },
  {
    part: 'toolkit',
    name: 'nvidia-cuda-runtime',
    version: '13.0.96',
    build: '^nvidia/cu13/(include/|lib/.*\\.a$)',
    run: '/libcudart\\.so', // cudnn-frontend wants a shared one; ours is static
    megabytes: 3,
    sha256: '7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548',
  },
  {
    part: 'toolkit',
    name: 'nvidia-cuda-cccl',
    version: '13.0.85',
    build: HEADERS,
    megabytes: 4,
    sha256: 'e0da7ad981f3a8aff08241b5bfc1af868742a63e2762f53a5171c492ef242649',
  },
  {
    part: 'toolkit',
    name: 'nvidia-curand',
    version: '10.4.0.35',
    build: HEADERS,
    megabytes: 60,
    sha256: '1aee33a5da6e1db083fe2b90082def8915f30f3248d5896bcec36a579d941bfc',
  },
  {
    part: 'toolkit',
    name: 'nvidia-cublas',
    version: '13.1.2.11',
    build: HEADERS,
    run: '/libcublasLt\\.so',
    megabytes: 424,
    sha256: 'e1ad7b57879088bc79e31cc172891a64332f76ae733084d4aaaaa65499b9b3de',
  },
  {
    part: 'cudnn',
    name: 'nvidia-cudnn-frontend', // the last before its headers want NVRTC's, too, is 1.18
    version: '1.18.0',
    build: '^include/',
    megabytes: 3,
    sha256: '6c023539ca6de99234cf5102c3ec0d6af817f5396fc93028a22ba5b834a35b8a',
  },
  {
    part: 'cudnn',
    name: 'nvidia-cudnn-cu13',
    version: '9.19.0.56',
    build: HEADERS,
    run: '/libcudnn[^/]*\\.so',
    megabytes: 367,
    sha256: 'd20e1734305e9d68889a96e3f35094d733ff1f83932ebe462753973e53a572bf',
  },
  {
    part: 'cudnn',
    name: 'nvidia-cuda-nvrtc', // cuDNN compiles some of its engines when it runs
    version: '13.0.88',
    run: '/libnvrtc(-builtins)?\\.so',
    megabytes: 91,
    sha256: 'ad9b6d2ead2435f11cbb6868809d2adeeee302e9bb94bcf0539c7a40d80e8575',
  },
  {
    part: 'flashinfer',
    name: 'flashinfer-python',
    version: '0.6.9',
    build: '^flashinfer/data/(include|cutlass/include|cutlass/tools/util/include)/',
    megabytes: 10,
    sha256: '46d013119ecd039a5844c4847325b3571f99cdd8fd9e00839bf008c67b15811a',
  },
];
const PARTS = [...new Set(PACKAGES.map((entry) => entry.part))];
const DISK_BYTES = 3e9;

// Wheels carry permissions that only their owner can use; a shared cache must serve everyone.
const UNPACK = `
import os, re, sys, zipfile
wheel, target, wanted = sys.argv[1], sys.argv[2], re.compile('|'.join(sys.argv[3:] + [r'\\.dist-info/licenses/.']))
with zipfile.ZipFile(wheel) as archive:
    for member in archive.infolist():
        if member.is_dir() or not wanted.search(member.filename): continue
        path = archive.extract(member, target)
        os.chmod(path, 0o755 if member.external_attr >> 16 & 0o100 else 0o644)
`;

const say = (line) => process.stderr.write(`${line}\n`);

class FetchError extends Error {}

function bytesUnder(folder) {
  let total = 0;
  for (const entry of readdirSync(folder, { withFileTypes: true, recursive: true })) {
    if (!entry.isFile()) continue;
    // pip moves files while they are counted.
    total += statSync(join(entry.parentPath ?? entry.path, entry.name), { throwIfNoEntry: false })?.size ?? 0;
  }
  return total;
}

/** Downloads one wheel into `scratch`; pip refuses one whose digest is another. Resolves with its path. */
async function download({ name, version, sha256, megabytes }, scratch) {
  const requirements = join(scratch, 'requirements.txt');
  writeFileSync(requirements, `${name}==${version} --hash=sha256:${sha256}\n`);
  const platforms = ['manylinux_2_28', 'manylinux_2_27', 'manylinux_2_17', 'manylinux_2_12'];
  const args = ['-m', 'pip', 'download', '--quiet', '--disable-pip-version-check', '--no-cache-dir'];
  args.push('--no-deps', '--require-hashes', '--only-binary=:all:', '--requirement', requirements);
  // Always the same wheel, whichever Python downloads it: only headers and libraries are taken from it.
  args.push('--python-version', '3.12', '--implementation', 'cp', '--abi', 'cp312', '--abi', 'none');
  args.push(
    ...[...platforms, 'manylinux2014', 'manylinux2010'].flatMap((p) => ['--platform', `${p}_x86_64`]),
  );
  args.push('--platform', 'any', '--dest', scratch);
  const child = spawn('python3', args, {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { ...process.env, TMPDIR: scratch },
  });
  const beat = setInterval(() => {
    say(`  ${name} ${version}: ${Math.round(bytesUnder(scratch) / 1e6)} of ${megabytes} MB`);
  }, 4000);
  const code = await new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', resolve);
  }).finally(() => clearInterval(beat));
  const wheel = readdirSync(scratch).find((file) => file.endsWith('.whl'));
  if (code !== 0 || wheel === undefined) {
    throw new FetchError(
      `pip could not download ${name} ${version} (see above). With a CUDA toolkit of your own (13.0 or newer) set CUDA_HOME, FLASHINFER_ROOT and CUDNN_ROOT instead`,
    );
  }
  return join(scratch, wheel);
}

const stamp = (target, { name, version }, use) => join(target, '.have', `${name}-${version}.${use}`);

/** What of each package is wanted and not there yet. */
function missing(target, uses, parts) {
  return PACKAGES.filter((entry) => parts.includes(entry.part))
    .map((entry) => ({
      entry,
      uses: uses.filter((use) => entry[use] !== undefined && !existsSync(stamp(target, entry, use))),
    }))
    .filter((want) => want.uses.length > 0);
}

async function fetchPackage({ entry, uses }, target) {
  const scratch = mkdtempSync(join(target, '.fetch-'));
  try {
    const wheel = await download(entry, scratch);
    const unpack = spawnSync(
      'python3',
      ['-c', UNPACK, wheel, target, ...uses.map((use) => (use === 'run' ? entry.run : entry.build))],
      { stdio: ['ignore', 'ignore', 'inherit'] },
    );
    if (unpack.status !== 0)
      throw new FetchError(`${entry.name} ${entry.version} could not be unpacked (see above)`);
    for (const use of uses) {
      writeFileSync(join(scratch, 'stamp'), '');
      renameSync(join(scratch, 'stamp'), stamp(target, entry, use));
    }
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

async function fetchAll(target, uses, parts) {
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    throw new FetchError(
      `the packaged toolchain is for Linux on x86-64, this is ${process.platform} on ${process.arch}: install CUDA 13.0 or newer and set CUDA_HOME`,
    );
  }
  mkdirSync(join(target, '.have'), { recursive: true });
  const known = PACKAGES.flatMap((entry) => ['build', 'run'].map((use) => stamp(target, entry, use)));
  if (readdirSync(join(target, '.have')).some((name) => !known.includes(join(target, '.have', name)))) {
    // A package of another version: what it left would lie between the new one's headers.
    rmSync(target, { recursive: true, force: true });
    mkdirSync(join(target, '.have'), { recursive: true });
  }
  const disk = statfsSync(target);
  if (disk.bavail * disk.bsize < DISK_BYTES) {
    throw new FetchError(
      `${target} needs ${DISK_BYTES / 1e9} GB of free disk: make room, or set SPOTLIGHT_CACHE`,
    );
  }
  for (const left of readdirSync(target).filter((name) => name.startsWith('.fetch-')))
    rmSync(join(target, left), { recursive: true, force: true });
  const wanted = missing(target, uses, parts);
  for (const [index, want] of wanted.entries()) {
    const { name, version, megabytes } = want.entry;
    say(`fetching ${name} ${version} (${megabytes} MB, ${index + 1} of ${wanted.length}, once)`);
    await fetchPackage(want, target);
  }
  // nvcc looks for cudart where a toolkit of the system has it.
  const toolkit = join(target, 'nvidia/cu13');
  if (existsSync(join(toolkit, 'lib')) && !existsSync(join(toolkit, 'lib64')))
    symlinkSync('lib', join(toolkit, 'lib64'));
}

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: { runtime: { type: 'boolean', default: false } },
});
const parts = positionals.length > 0 ? positionals : PARTS;
const uses = flags.runtime ? ['build', 'run'] : ['build'];
const cache = process.env.SPOTLIGHT_CACHE || join(homedir(), '.cache', 'spotlight');
const target = join(cache, ROOT);

try {
  const unknown = parts.find((part) => !PARTS.includes(part));
  if (unknown !== undefined)
    throw new FetchError(`there is no part "${unknown}"; there are ${PARTS.join(', ')}`);
  if (missing(target, uses, parts).length === 0) {
    process.stdout.write(`${target}\n`);
  } else if (process.env.SPOTLIGHT_CUDA_LOCK === target) {
    await fetchAll(target, uses, parts);
    process.stdout.write(`${target}\n`);
  } else {
    // The kernel lets go of a lock of flock(1) when its process ends, however it ends.
    mkdirSync(cache, { recursive: true });
    const locked = spawnSync('flock', [`${target}.lock`, process.execPath, ...process.argv.slice(1)], {
      stdio: 'inherit',
      env: { ...process.env, SPOTLIGHT_CUDA_LOCK: target },
    });
    if (locked.error) throw locked.error;
    process.exitCode = locked.status ?? 1;
  }
} catch (error) {
  say(`cuda: ${error instanceof FetchError ? error.message : error.stack}`);
  process.exitCode = 1;
}
