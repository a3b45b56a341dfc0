// What tests that need a GPU ask first. Without one they skip themselves with the reason, unless SPOTLIGHT_REQUIRE_GPU is set: then
// a GPU that is not found is a failure.
import { devices } from '@spotlight/cuda';
import type { DeviceInfo } from '@spotlight/cuda';

/** [async] The GPU the tests run on. Skips the caller's suite when there is none that an engine can use. */
export async function needGpu(context: Mocha.Context): Promise<DeviceInfo> {
  const found = await devices();
  const usable = found.devices.find((device) => device.usable);
  if (usable !== undefined) return usable;
  const problems = found.devices.flatMap(({ name, problem }) =>
    problem === undefined ? [] : [`${name}: ${problem}`],
  );
  const why = [...found.missing, ...problems].join(' ') || 'no GPU';
  if (process.env['SPOTLIGHT_REQUIRE_GPU']) throw new Error(why);
  process.stderr.write(`skipped: ${why}\n`);
  return context.skip();
}
