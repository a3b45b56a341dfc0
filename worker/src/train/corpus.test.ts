import assert from 'node:assert/strict';
import { appendFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { CorpusOptions, TextEncoder } from './corpus.js';
import { Corpus, shuffled } from './corpus.js';

/** A token a word: its number. */
const words: TextEncoder = {
  encode: (text) => Promise.resolve((text.match(/\d+/g) ?? []).map(Number)),
};
const OPTIONS: CorpusOptions = { sequence: 50, seed: 1, textField: 'text', separator: -1, heldOut: 2 };

function numbers(from: number, count: number): string {
  return Array.from({ length: count }, (_, i) => String(from + i)).join(' ');
}

describe('Corpus', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'spotlight-corpus-'));
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));
  const open = (options: Partial<CorpusOptions> = {}, paths = [folder]): Promise<Corpus> =>
    Corpus.open(paths, words, { ...OPTIONS, ...options });

  it('gives whole texts of consecutive words, each once an epoch, those held out never', async () => {
    await writeFile(join(folder, 'a.txt'), numbers(10_000, 5000));
    const corpus = await open();
    assert.ok(corpus.texts > 80 && corpus.texts < 98, String(corpus.texts));
    assert.equal(corpus.heldOutTexts, 2);
    const seen = new Set<number>();
    for (let step = 0; step < corpus.texts; step++) {
      const tokens = await corpus.text(step);
      assert.equal(tokens.length, 50);
      tokens.forEach((token, i) => {
        if (token < 14_990) assert.equal(token, (tokens[0] ?? 0) + i);
      });
      seen.add(tokens[0] ?? 0);
    }
    assert.equal(seen.size, corpus.texts);
    for (let i = 0; i < 2; i++) {
      const [first = 0] = await corpus.heldOut(i);
      // Nor does any text reach into them.
      for (const start of seen) assert.ok(Math.abs(start - first) > 50, `${start} and ${first}`);
    }
  });

  it('gives the same text for a step whenever it is asked, and another order for another seed', async () => {
    await writeFile(join(folder, 'a.txt'), numbers(0, 5000));
    const [one, two, other] = [await open(), await open(), await open({ seed: 2 })];
    const late = await two.text(one.texts + 3);
    for (const step of [7, 0, 7, one.texts + 3]) {
      const tokens = await one.text(step);
      assert.deepEqual(tokens, step === one.texts + 3 ? late : await two.text(step));
    }
    assert.notDeepEqual(
      await Promise.all([0, 1, 2].map((step) => one.text(step))),
      await Promise.all([0, 1, 2].map((step) => other.text(step))),
    );
  });

  it('packs short files and lines of .jsonl with the separator between', async () => {
    await mkdir(join(folder, 'texts'));
    for (let i = 0; i < 40; i++)
      await writeFile(join(folder, 'texts', `${100 + i}.txt`), numbers(1000 * i, 20));
    await writeFile(
      join(folder, 'more.jsonl'),
      Array.from(
        { length: 40 },
        (_, i) => `${JSON.stringify({ text: numbers(1000 * (100 + i), 20) })}\n`,
      ).join(''),
    );
    const corpus = await open({ heldOut: 0 });
    let separators = 0;
    for (let step = 0; step < corpus.texts; step++) {
      const tokens = await corpus.text(step);
      assert.equal(tokens.length, 50);
      separators += tokens.filter((token) => token === -1).length;
      for (const [i, token] of tokens.entries()) {
        const before = tokens[i - 1] ?? -1;
        if (token !== -1 && before !== -1) assert.equal(token, before + 1);
      }
    }
    assert.ok(separators >= 2 * corpus.texts);
  });

  it('has a digest of the contents alone', async () => {
    const path = join(folder, 'a.txt');
    await writeFile(path, numbers(0, 2000));
    const { digest } = await open();
    await mkdir(join(folder, 'again'));
    await writeFile(join(folder, 'again', 'renamed.md'), numbers(0, 2000));
    assert.equal((await open({}, [join(folder, 'again')])).digest, digest);
    await appendFile(path, ' 7');
    assert.notEqual((await open({}, [path])).digest, digest);
  });

  it('says what is wrong with a corpus', async () => {
    await assert.rejects(open({}, [join(folder, 'none')]), /none: cannot be read/);
    await assert.rejects(open(), /no text in it/);
    await writeFile(join(folder, 'a.txt'), numbers(0, 60));
    await assert.rejects(open(), /about \d+ tokens, too few for texts of 50/);
    await writeFile(join(folder, 'b.txt'), Buffer.from([65, 0, 66]));
    await assert.rejects(open(), /b\.txt: holds zero bytes/);
    await rm(join(folder, 'b.txt'));
    await writeFile(join(folder, 'b.jsonl'), `{"text": "${numbers(0, 900)}"}\n{"body": "x"}\n`.repeat(9));
    await assert.rejects(open({ textField: 'story' }), /b\.jsonl: the line at byte \d+ has no text "story"/);
    await writeFile(join(folder, 'b.jsonl'), `{"text": ${numbers(0, 900)}\n`.repeat(9));
    await assert.rejects(open(), /b\.jsonl: the line at byte \d+ is not JSON/);
  });
});

describe('shuffled', () => {
  it('is a permutation that seed and epoch decide', () => {
    const order = shuffled(100, 5, 0);
    assert.deepEqual(
      [...order].sort((a, b) => a - b),
      Array.from({ length: 100 }, (_, i) => i),
    );
    assert.deepEqual(shuffled(100, 5, 0), order);
    assert.notDeepEqual(shuffled(100, 5, 1), order);
    assert.notDeepEqual(shuffled(100, 6, 0), order);
    assert.notDeepEqual(shuffled(100, 5 + 2 ** 40, 0), order);
  });
});
