// Whether this machine's native module carries CUDA, and for which GPUs: SPOTLIGHT_CUDA says (1 or 0), else a GPU that the engine can
// use does. Read by set-up, too, before anything is installed: plain Node.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';

const OLDEST = 8.0;
const SHIPPED = '80;90a-real';

/** Compute capabilities of the GPUs nvidia-smi lists, ["9.0", ...]; undefined when it is not there or does not work. */
function capabilities() {
  const asked = spawnSync('nvidia-smi', ['--query-gpu=compute_cap', '--format=csv,noheader'], {
    encoding: 'utf8',
    timeout: 30_000,
  });
  if (asked.status !== 0) return undefined;
  return asked.stdout.split('\n').filter((line) => /^\d+\.\d$/.test(line.trim()));
}

/** What a GPU's code is built for: 9.0 has instructions of its own, newer ones take the PTX of 8.0. */
export function architectureOf(capability) {
  if (capability === '9.0') return '90a-real';
  return Number(capability) < 9 ? '80-real' : '80-virtual';
}

/** { wanted, architectures }: without a GPU to look at, architectures are those that ship. */
export function cudaPlan(setting = process.env.SPOTLIGHT_CUDA, found = capabilities()) {
  const usable = (found ?? []).filter((capability) => Number(capability) >= OLDEST);
  const present = found === undefined ? existsSync('/dev/nvidiactl') : usable.length > 0;
  return {
    wanted: setting === '1' || (setting !== '0' && present),
    architectures: [...new Set(usable.map(architectureOf))].sort().join(';') || SHIPPED,
  };
}
