// A whole small model on disk in which one token's embedding is no number, for engines that read files.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { tinyModel } from '../fakes/tiny-model.js';
import { POISON } from './engine-corruption.js';

/** Called in a describe: gives the model's folder, which a hook makes and another removes. */
export function damagedModel(): () => string {
  let folder: string | undefined;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'spotlight-damaged-'));
    for (const [name, content] of tinyModel({ damagedToken: POISON }))
      await writeFile(join(folder, name), content);
  });
  after(async () => {
    if (folder !== undefined) await rm(folder, { recursive: true, force: true });
  });
  return () => {
    if (folder === undefined) throw new Error('asked for before the hook made it');
    return folder;
  };
}
