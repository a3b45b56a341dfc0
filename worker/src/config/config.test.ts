import assert from 'node:assert/strict';
import { ConfigError, helpText, loadConfig } from './config.js';
import { SETTING_NAMES, SETTINGS, variableOf } from './settings.js';

function problemsOf(args: readonly string[], environment: Record<string, string> = {}): readonly string[] {
  try {
    loadConfig(args, environment);
  } catch (error) {
    assert.ok(error instanceof ConfigError);
    return error.problems;
  }
  assert.fail('no ConfigError');
}

describe('loadConfig', () => {
  it('fills every default and leaves the rest absent', () => {
    const config = loadConfig([], {});
    assert.equal(config.model, 'smollm2-135m-instruct');
    assert.equal(config.shutdownTimeout, 30_000);
    assert.equal(config.join, undefined);
    assert.equal(config.attentionFraction, undefined);
    assert.equal(config.announce, false);
    assert.ok(Object.isFrozen(config));
  });

  it('reads flags, switches, repeated flags and variables, flags first', () => {
    const config = loadConfig(
      ['--join', '127.0.0.1:8001', '--join=[::1]:9000,cp.local:80', '--announce', '--kv-memory', '1.5GiB'],
      { SPOTLIGHT_KV_MEMORY: '2GiB', SPOTLIGHT_GRPC_PORT: '0', HF_TOKEN: 'secret', SPOTLIGHT_THREADS: '' },
    );
    assert.deepEqual(config.join, ['127.0.0.1:8001', '[::1]:9000', 'cp.local:80']);
    assert.equal(config.announce, true);
    assert.equal(config.kvMemory, 1.5 * 2 ** 30);
    assert.equal(config.grpcPort, 0);
    assert.equal(config.hubToken, 'secret');
    assert.equal(config.threads, undefined);
  });

  it('takes every attention setting', () => {
    const config = loadConfig(
      [
        ...[
          '--attention-backend',
          'spotlight',
          '--attention-fraction',
          '0.05',
          '--attention-min-tokens',
          '163',
        ],
        ...['--attention-sink', '0', '--attention-recent', '32', '--attention-tail', 'none'],
        ...['--attention-tail-from', '0', '--attention-crossover', '0'],
        ...['--attention-layers', '0-1:dense, 3:sparse-tail:0.5'],
      ],
      {},
    );
    assert.equal(config.attentionBackend, 'spotlight');
    assert.equal(config.attentionMinTokens, 163);
    assert.equal(config.attentionSink, 0);
    assert.deepEqual(config.attentionLayers, {
      0: { mode: 'dense' },
      1: { mode: 'dense' },
      3: { mode: 'sparse-tail', fraction: 0.5 },
    });
  });

  it('names every bad value at once, with its source and what would be right', () => {
    const problems = problemsOf(['--grpc-port', '70000', '--attention-fraction', '0', '--join', 'nowhere'], {
      SPOTLIGHT_KV_MEMORY: 'lots',
      HF_ENDPOINT: 'hub',
      SPOTLIGHT_ATTENTION_LAYERS: '3-1:dense',
    });
    assert.equal(problems.length, 6);
    const all = problems.join('\n');
    assert.match(all, /--grpc-port "70000": must be a whole number from 0 to 65535/);
    assert.match(all, /--attention-fraction "0": must be a number above 0 and at most 1/);
    assert.match(all, /--join "nowhere": must be host:port/);
    assert.match(all, /SPOTLIGHT_KV_MEMORY "lots": must be a size/);
    assert.match(all, /HF_ENDPOINT "hub": must be a http/);
    assert.match(all, /SPOTLIGHT_ATTENTION_LAYERS "3-1:dense": has layers 3-1 backwards/);
  });

  it('refuses unknown flags, and secrets on the command line', () => {
    assert.match(problemsOf(['--grpc-prot', '1'])[0]!, /Unknown option '--grpc-prot'/);
    assert.match(problemsOf(['--join-token', 'x'])[0]!, /Unknown option '--join-token'/);
  });

  it('lists every setting in its help', () => {
    for (const name of SETTING_NAMES) assert.ok(helpText().includes(variableOf(name)), name);
    assert.ok(helpText().includes(SETTINGS.model.help));
  });
});
