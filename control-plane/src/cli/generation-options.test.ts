import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { GenerateRequest, TailMode } from '@spotlight/proto';
import { Command } from 'commander';
import { CliError } from './cli-error.js';
import type { GenerationFlags } from './generation-options.js';
import { addGenerationOptions, readPrompt, toGenerateRequest } from './generation-options.js';

function parse(...args: string[]): GenerationFlags {
  const command = addGenerationOptions(new Command('generate')).exitOverride();
  command.configureOutput({ writeErr: () => undefined });
  return command.parse(args, { from: 'user' }).opts();
}

describe('generation flags', () => {
  it('leave absent what was not given, so that the server decides', () => {
    const request = toGenerateRequest('hi', '', parse());
    assert.deepEqual(GenerateRequest.toJSON(request), {
      chat: { messages: [{ role: 'user', content: 'hi' }] },
      sampling: {},
      attention: {},
    });
  });

  it('keep zero apart from absent', () => {
    const { sampling, attention } = toGenerateRequest(
      'hi',
      'm',
      parse('--temperature', '0', '--seed', '0', '--top-k', '0', '--dense-prefix-tokens', '0'),
    );
    assert.equal(sampling?.temperature, 0);
    assert.equal(sampling.seed, 0n);
    assert.equal(sampling.topK, 0);
    assert.equal(attention?.densePrefixTokens, 0);
  });

  it('carry every flag into the request', () => {
    const flags = parse(
      ...['--raw', '-n', '7', '--top-p', '0.5', '--min-p', '0.1', '--presence-penalty', '-1'],
      ...['--frequency-penalty', '2', '--repetition-penalty', '1.5', '--seed', '18446744073709551615'],
      ...[
        '--stop',
        'a',
        '--stop',
        'b',
        '--ignore-eos',
        '--backend',
        'dense',
        '--fraction',
        '0.25',
        '--tail',
        'none',
      ],
    );
    const request = toGenerateRequest('text', 'name', flags);
    assert.deepEqual(request.prompt, { $case: 'text', value: 'text' });
    assert.equal(request.model, 'name');
    const { sampling, attention } = request;
    assert.deepEqual(
      [
        sampling?.maxTokens,
        sampling?.topP,
        sampling?.minP,
        sampling?.presencePenalty,
        sampling?.frequencyPenalty,
      ],
      [7, 0.5, 0.1, -1, 2],
    );
    assert.deepEqual(
      [sampling?.repetitionPenalty, sampling?.seed, sampling?.stop, sampling?.ignoreEos],
      [1.5, 2n ** 64n - 1n, ['a', 'b'], true],
    );
    assert.deepEqual(
      [attention?.backend, attention?.fraction, attention?.tail],
      ['dense', 0.25, TailMode.NONE],
    );
  });

  it('refuse values out of range, naming the flag', () => {
    for (const args of [
      ['--max-tokens', '-1'],
      ['--max-tokens', '1.5'],
      ['--top-p', '2'],
      ['--temperature', 'warm'],
      ['--seed', '18446744073709551616'],
      ['--tail', 'long'],
    ]) {
      assert.throws(() => parse(...args), new RegExp(args[0] ?? ''), args.join(' '));
    }
  });

  it('refuse what contradicts itself', () => {
    assert.throws(() => toGenerateRequest('', '', {}), CliError);
    assert.throws(() => toGenerateRequest('x', '', { raw: true, system: 'y' }), /--raw/);
  });
});

describe('readPrompt', () => {
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'spotlight-prompt-'));
  });
  after(() => {
    rmSync(folder, { recursive: true });
  });

  it('takes the argument or the file, never both', async () => {
    const file = join(folder, 'prompt.txt');
    writeFileSync(file, 'from a file \u{1f600}\n');
    assert.equal(await readPrompt('given', {}), 'given');
    assert.equal(await readPrompt(undefined, { file }), 'from a file \u{1f600}\n');
    await assert.rejects(readPrompt('given', { file }), /not both/);
  });

  it('refuses a file that is not UTF-8, and one that is not there', async () => {
    const file = join(folder, 'latin1.txt');
    writeFileSync(file, Buffer.from([0x63, 0xe9]));
    await assert.rejects(readPrompt(undefined, { file }), /latin1.txt is not valid UTF-8/);
    await assert.rejects(readPrompt(undefined, { file: join(folder, 'none') }), { code: 'ENOENT' });
  });
});
