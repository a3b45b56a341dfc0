// Makes gen/ from spotlight/v1/*.proto: TypeScript by ts-proto, and the raw FileDescriptorSet that reflection serves.
// Skips when nothing changed, told by a stamp over the inputs' content, since a changed mtime alone would make tsc rebuild every room.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { delimiter, dirname, join } from 'node:path';

const room = import.meta.dirname;
const require = createRequire(import.meta.url);
const protos = readdirSync(join(room, 'spotlight/v1'))
  .filter((name) => name.endsWith('.proto'))
  .sort()
  .map((name) => `spotlight/v1/${name}`);

const stamp = createHash('sha256');
for (const path of [...protos, 'buf.gen.yaml', 'package.json', 'generate.mjs']) {
  stamp.update(path).update(readFileSync(join(room, path)));
}
const digest = stamp.digest('hex');
const stampFile = join(room, 'gen/.stamp');
if (existsSync(stampFile) && readFileSync(stampFile, 'utf8') === digest) process.exit(0);

// Executables are found through their packages, not through PATH, so that a plain `node generate.mjs` works as well.
const binOf = (name, bin) => {
  const manifest = require.resolve(`${name}/package.json`);
  return join(dirname(manifest), require(manifest).bin[bin]);
};
const buf = binOf('@bufbuild/buf', 'buf');
const pluginFolder = dirname(binOf('ts-proto', 'protoc-gen-ts_proto'));
const options = {
  cwd: room,
  stdio: 'inherit',
  env: { ...process.env, PATH: [pluginFolder, process.env.PATH].join(delimiter) },
};

rmSync(join(room, 'gen'), { recursive: true, force: true });
mkdirSync(join(room, 'gen'));
execFileSync(process.execPath, [buf, 'generate'], options);
execFileSync(process.execPath, [buf, 'build', '-o', 'gen/descriptor.binpb'], options);
writeFileSync(stampFile, digest);
