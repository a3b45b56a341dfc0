// The version, read from the package that carries the CLI: one place to raise it.
import { createRequire } from 'node:module';

const manifest = createRequire(import.meta.url)('../../package.json') as { version: string };

export const VERSION = manifest.version;
