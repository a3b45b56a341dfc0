// What tests that need a GPU ask first. Without one they skip themselves with the reason, unless SPOTLIGHT_REQUIRE_GPU is set: then
// a GPU that is not found is a failure. SPOTLIGHT_REHEARSE runs them on the CPU instead: that shows that the tests work, and nothing
// of a GPU.
import { devices } from '@spotlight/cuda';

export const DEVICE = process.env['SPOTLIGHT_REHEARSE'] ? 'cpu' : 'cuda';

/** [async] Skips the caller's suite when there is no GPU that an engine can use. */
export async function needGpu(context: Mocha.Context): Promise<void> {
  if (DEVICE === 'cpu') return;
  const found = await devices();
  if (found.devices.some((device) => device.usable)) return;
  const problems = found.devices.flatMap(({ name, problem }) =>
    problem === undefined ? [] : [`${name}: ${problem}`],
  );
  skip(context, [...found.missing, ...problems].join(' ') || 'no GPU');
}

/** Skips a suite for which the CPU will not do. */
export function needCuda(context: Mocha.Context): void {
  if (DEVICE === 'cpu') skip(context, 'this is a rehearsal on the CPU, which cannot show this');
}

function skip(context: Mocha.Context, why: string): never {
  if (process.env['SPOTLIGHT_REQUIRE_GPU']) throw new Error(why);
  process.stderr.write(`skipped: ${why}\n`);
  return context.skip();
}
