import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import type { ListFileEntry } from '@huggingface/hub';
import { choose, parseHubModel } from './hub.js';
import { resolveModel } from './resolve.js';

const options = {
  cache: '/nowhere',
  hubUrl: 'http://127.0.0.1:1',
  hubToken: undefined,
  say: () => undefined,
};

describe('resolveModel', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'spotlight-models-'));
  });
  afterEach(() => rm(folder, { recursive: true }));

  it('knows a GGUF file, a folder and a dummy shape', async () => {
    const file = join(folder, 'tiny.Q4_1.gguf');
    await writeFile(file, 'GGUF');
    assert.deepEqual(await resolveModel(file, options), {
      id: 'tiny.Q4_1',
      source: { kind: 'gguf', path: file },
      origin: file,
      tokenizerFolder: undefined,
    });
    const found = await resolveModel(folder, options);
    assert.equal(found.id, basename(folder));
    assert.deepEqual(found.source, { kind: 'safetensors', path: folder });
    assert.equal(found.tokenizerFolder, folder);
    assert.deepEqual((await resolveModel('dummy:qwen2.5-7b:7', options)).source, {
      kind: 'dummy',
      shape: 'qwen2.5-7b',
      seed: 7,
    });
  });

  it('says what it looked for', async () => {
    await assert.rejects(resolveModel(join(folder, 'x.gguf'), options), /there is no model at .*x\.gguf/);
    await writeFile(join(folder, 'model.bin'), '');
    await assert.rejects(resolveModel(join(folder, 'model.bin'), options), /is not a \.gguf file/);
    await assert.rejects(resolveModel('dummy:', options), /is not dummy:SHAPE/);
    await assert.rejects(resolveModel('some model', options), /neither a file, a folder, .* nor a hub id/);
  });
});

describe('hub ids', () => {
  it('are org/name, with a revision and a file where given', () => {
    assert.deepEqual(parseHubModel('org/name'), { repo: 'org/name', revision: 'main', file: undefined });
    assert.deepEqual(parseHubModel('org/na.me@refs/pr/1:sub/m.Q4.gguf'), {
      repo: 'org/na.me',
      revision: 'refs/pr/1',
      file: 'sub/m.Q4.gguf',
    });
    for (const bad of ['name', 'a/b/c', 'org/name:model.bin', '../x y'])
      assert.equal(parseHubModel(bad), undefined, bad);
  });

  it('take the files a model needs and no others', () => {
    const entry = (path: string): ListFileEntry => ({ type: 'file', size: 1, path });
    const paths = (model: string, names: string[]): string[] =>
      choose(parseHubModel(model)!, names.map(entry)).map((file) => file.path);
    const all = [
      'README.md',
      'config.json',
      'tokenizer.json',
      'model-1.safetensors',
      'consolidated.safetensors',
      'onnx/model.safetensors',
      'q.gguf',
    ];
    assert.deepEqual(paths('o/n', all), ['config.json', 'tokenizer.json', 'model-1.safetensors']);
    assert.deepEqual(paths('o/n:q.gguf', all), ['q.gguf']);
    assert.throws(() => paths('o/n:r.gguf', all), /has no file r\.gguf; its GGUF files: q\.gguf/);
    assert.throws(() => paths('o/n', ['q.gguf']), /choose a GGUF file as o\/n:FILE, one of q\.gguf/);
    assert.throws(() => paths('o/n', ['README.md']), /neither safetensors nor GGUF/);
  });
});
