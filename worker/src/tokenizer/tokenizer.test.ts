// Encoding rules on vocabularies small enough to work out by hand, and the two loaders against each other.
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ErrorCode } from '@spotlight/proto';
import type { TokenizerDefinition } from './definition.js';
import type { PromptError } from './errors.js';
import { TokenizerError } from './errors.js';
import { definitionFromFolder } from './from-folder.js';
import { definitionFromGguf } from './from-gguf.js';
import { PRE_TOKENIZER_NAMES } from './pre-tokenizers.js';
import { byteLevelMetadata, sentencePieceMetadata } from './small-vocabulary.js';
import { Tokenizer } from './tokenizer.js';

const byteLevel = (overrides = {}): Promise<Tokenizer> =>
  Tokenizer.create(definitionFromGguf(byteLevelMetadata(overrides), 'test.gguf'));
const sentencePiece = (overrides = {}): Promise<Tokenizer> =>
  Tokenizer.create(definitionFromGguf(sentencePieceMetadata(overrides), 'test.gguf'));

function textOf(tokenizer: Tokenizer, ids: readonly number[], skipSpecial = false): string {
  const stream = tokenizer.openStream({ skipSpecial });
  return ids.map((id) => stream.push(id)).join('') + stream.flush();
}

describe('byte-level tokenizer from GGUF metadata', () => {
  it('merges inside words and takes special and user-defined tokens whole', async () => {
    const tokenizer = await byteLevel();
    assert.deepEqual(await tokenizer.encode('the in'), [257, 32, 259]);
    assert.deepEqual(await tokenizer.encode('a the<|end|><tool>'), [97, 258, 260, 261]);
    assert.deepEqual([...tokenizer.stopTokenIds], [260]);
  });

  it('gives any bytes back as they came', async () => {
    const tokenizer = await byteLevel();
    for (const text of ['naïve — 日本語 🙂👩‍👧', '\u0000\u007f\u0080\u00ad', 'constructor __proto__', '']) {
      assert.equal(textOf(tokenizer, await tokenizer.encode(text)), text);
    }
  });

  it('adds bos and eos only where the file says so and the caller does not decline', async () => {
    const tokenizer = await byteLevel({ addBosToken: true, addEosToken: true });
    assert.deepEqual(await tokenizer.encode('in'), [260, 259, 260]);
    assert.deepEqual(await tokenizer.encode('in', { addSpecialTokens: false }), [259]);
    assert.deepEqual(await (await byteLevel()).encode('in'), [259]);
  });

  it('splits digits one by one for smollm and in threes for llama-bpe', async () => {
    const merges = ['1 2', '12 3', '123 4'];
    const tokens = [...byteLevelMetadata().tokens.slice(0, 256), '12', '123', '1234'];
    const tokenTypes = new Int32Array(tokens.length).fill(1);
    const encode = async (pre: string): Promise<number[]> =>
      (
        await byteLevel({ pre, merges, tokens, tokenTypes, bosTokenId: undefined, eosTokenId: undefined })
      ).encode('1234');
    assert.deepEqual(await encode('gpt-2'), [258]);
    assert.deepEqual(await encode('smollm'), [49, 50, 51, 52]);
    assert.deepEqual(await encode('llama-bpe'), [257, 52]);
  });

  it('encodes a long text in pieces to the ids of the whole', async () => {
    const tokenizer = await byteLevel();
    let text = '';
    for (let i = 0; text.length < 60_000; i++) {
      text +=
        ['the ', 'in\n\n the', "it's  ", 'a<|end|>b ', '日本 ', 'x\t', '12 ', 'the\n'][
          (i * 7 + (i >> 3)) % 8
        ] ?? '';
    }
    const pieces = await tokenizer.encode(text);
    // The reference: calls below the size where cutting begins, parted between a letter and a blank.
    const whole: number[] = [];
    for (let from = 0; from < text.length;) {
      let to = Math.min(text.length, from + 9000);
      while (to < text.length && !/[a-z] [a-z]/.test(text.slice(to - 1, to + 2))) to++;
      whole.push(...(await tokenizer.encode(text.slice(from, to))));
      from = to;
    }
    assert.deepEqual(pieces, whole);
    assert.equal(textOf(tokenizer, pieces), text);
  });

  it('runs every split rule it lists, and gives the text back', async () => {
    const text = "It's 2024: I'LL pay 1234½ € for naïve 日本語\n\n  foo_bar(x) // ok\t🙂  ";
    for (const pre of PRE_TOKENIZER_NAMES) {
      const tokenizer = await byteLevel({ pre });
      assert.equal(textOf(tokenizer, await tokenizer.encode(text, { addSpecialTokens: false })), text, pre);
    }
  });

  it('refuses a text that cannot fit the context before encoding it, with the limit', async () => {
    const tokenizer = await Tokenizer.create(definitionFromGguf(byteLevelMetadata(), 'test.gguf'), [], 100);
    // The longest token has 7 bytes.
    assert.equal((await tokenizer.encode('a'.repeat(2800))).length, 2800);
    await assert.rejects(tokenizer.encode('a'.repeat(2801)), (error: PromptError) => {
      assert.equal(error.code, ErrorCode.PROMPT_TOO_LONG);
      return /2801 characters, far more than the 100 tokens/.test(error.message);
    });
  });

  it('refuses what it does not know, by name', () => {
    const from = (overrides: object): TokenizerDefinition =>
      definitionFromGguf(byteLevelMetadata(overrides), 'test.gguf');
    assert.throws(
      () => from({ pre: 'klingon' }),
      /test\.gguf: tokenizer\.ggml\.pre "klingon" is not supported: gpt-2,/,
    );
    assert.throws(() => from({ model: 'rwkv' }), /tokenizer\.ggml\.model "rwkv" is not supported/);
    assert.throws(() => from({ merges: undefined }), /tokenizer\.ggml\.merges is missing/);
    assert.throws(() => from({ addBosToken: true, bosTokenId: undefined }), /bos_token_id is missing/);
    assert.throws(
      () => from({ addBosToken: true, bosTokenId: 999 }),
      /bos_token_id is outside the vocabulary/,
    );
    assert.throws(() => from({ tokens: [] }), TokenizerError);
  });
});

describe('SentencePiece tokenizer from GGUF metadata', () => {
  it('derives merges from scores, falls back to bytes, and opens with bos', async () => {
    const tokenizer = await sentencePiece();
    assert.deepEqual(await tokenizer.encode('hello'), [1, 268]);
    assert.deepEqual(await tokenizer.encode('hello hello', { addSpecialTokens: false }), [268, 268]);
    assert.deepEqual(await tokenizer.encode('é', { addSpecialTokens: false }), [259, 3 + 0xc3, 3 + 0xa9]);
    assert.deepEqual(await tokenizer.encode('日', { addSpecialTokens: false }), [259, 269]);
  });

  it('streams blanks, bytes and special tokens as text', async () => {
    const tokenizer = await sentencePiece();
    assert.equal(textOf(tokenizer, [1, 268, 268, 3 + 0xc3, 3 + 0xa9], true), ' hello helloé');
    assert.equal(textOf(tokenizer, [1, 268], false), '<s> hello');
  });

  it('refuses scores that do not fit the tokens', () => {
    assert.throws(
      () => definitionFromGguf(sentencePieceMetadata({ scores: new Float32Array(3) }), 'test.gguf'),
      /tokenizer\.ggml\.scores has 3 entries for 270 tokens/,
    );
  });
});

describe('tokenizer from a Hugging Face folder', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'spotlight-tokenizer-'));
  });
  afterEach(() => rm(folder, { recursive: true }));
  const write = (name: string, content: unknown): Promise<void> =>
    writeFile(join(folder, name), typeof content === 'string' ? content : JSON.stringify(content));

  it('gives the ids of the same tokenizer from GGUF, its stop ids, and its template', async () => {
    await write('tokenizer.json', definitionFromGguf(byteLevelMetadata(), 'x').json);
    await write('tokenizer_config.json', {
      eos_token: { content: '<|end|>' },
      chat_template: [
        { name: 'tool_use', template: 'no' },
        { name: 'default', template: 'yes' },
      ],
    });
    await write('generation_config.json', { eos_token_id: [261] });
    const definition = await definitionFromFolder(folder);
    assert.equal(definition.chatTemplate, 'yes');
    const tokenizer = await Tokenizer.create(definition, [7]);
    assert.deepEqual(await tokenizer.encode('a the<|end|>'), [97, 258, 260]);
    assert.deepEqual([...tokenizer.stopTokenIds], [261, 260, 7]);
    await write('chat_template.jinja', 'file');
    assert.equal((await definitionFromFolder(folder)).chatTemplate, 'file');
  });

  it('keeps the bos rule of tokenizer_config.json for Llama classes', async () => {
    await write('tokenizer.json', definitionFromGguf(sentencePieceMetadata(), 'x').json);
    await write('tokenizer_config.json', {
      tokenizer_class: 'LlamaTokenizer',
      bos_token: '<s>',
      eos_token: '</s>',
      add_bos_token: false,
      add_eos_token: true,
    });
    const tokenizer = await Tokenizer.create(await definitionFromFolder(folder));
    assert.deepEqual(await tokenizer.encode('hello'), [268, 2]);
  });

  it('names the file at fault', async () => {
    await assert.rejects(definitionFromFolder(folder), /has no tokenizer\.json/);
    await write('tokenizer.json', '{');
    await assert.rejects(definitionFromFolder(folder), /tokenizer\.json is not JSON/);
    await write('tokenizer.json', {});
    await assert.rejects(definitionFromFolder(folder), /holds no model\.vocab/);
    await write('tokenizer.json', {
      ...definitionFromGguf(byteLevelMetadata(), 'x').json,
      decoder: { type: 'WordPiece' },
    });
    await assert.rejects(
      Tokenizer.create(await definitionFromFolder(folder)),
      /decoder WordPiece is not supported/,
    );
  });
});
