import assert from 'node:assert/strict';
import { ConfigError, isLoopback, loadConfig } from './config.js';
import { SETTING_NAMES, SETTINGS, variableOf } from './settings.js';

function problemsOf(load: () => unknown): readonly string[] {
  try {
    load();
  } catch (error) {
    assert.ok(error instanceof ConfigError);
    return error.problems;
  }
  assert.fail('no ConfigError');
}

describe('loadConfig', () => {
  it('has a default for every setting that may not be absent, and freezes the result', () => {
    const config = loadConfig({}, {});
    assert.equal(config.host, '127.0.0.1');
    assert.equal(config.requestTimeout, 600_000);
    assert.equal(config.maxBody, 64 * 2 ** 20);
    assert.equal(config.databaseUrl, undefined);
    assert.deepEqual(config.joinTokens, []);
    assert.ok(Object.isFrozen(config));
    for (const name of SETTING_NAMES) {
      if (SETTINGS[name].fallback !== undefined) assert.notEqual(config[name], undefined, name);
    }
  });

  it('lets a flag win over its variable, and reads an empty variable as not set', () => {
    const environment = { SPOTLIGHT_HTTP_PORT: '9000', SPOTLIGHT_GRPC_PORT: '' };
    assert.equal(loadConfig({}, environment).httpPort, 9000);
    assert.equal(loadConfig({ httpPort: '9100' }, environment).httpPort, 9100);
    assert.equal(loadConfig({}, environment).grpcPort, 50051);
  });

  it('names every bad value at once with its source and what would be right', () => {
    const problems = problemsOf(() =>
      loadConfig({ httpPort: '70000' }, { SPOTLIGHT_MAX_BODY: 'lots', SPOTLIGHT_LOG_LEVEL: 'loud' }),
    );
    assert.equal(problems.length, 3);
    assert.match(problems.join('\n'), /--http-port "70000": must be a whole number from 0 to 65535/);
    assert.match(problems.join('\n'), /SPOTLIGHT_MAX_BODY "lots": must be a size such as/);
    assert.match(problems.join('\n'), /SPOTLIGHT_LOG_LEVEL "loud": must be one of fatal, /);
  });

  it('never repeats a secret in an error', () => {
    const problems = problemsOf(() => loadConfig({}, { SPOTLIGHT_ADMIN_KEY: 'hunter2' }));
    assert.match(problems[0]!, /^SPOTLIGHT_ADMIN_KEY: must be at least 16 characters/);
    assert.ok(!problems[0]!.includes('hunter2'));
  });

  it('refuses values that contradict each other', () => {
    assert.match(
      problemsOf(() => loadConfig({ leaseTimeout: '2s', reportInterval: '1s' }, {}))[0]!,
      /--lease-timeout 2000ms: must be at least three times/,
    );
    assert.match(
      problemsOf(() => loadConfig({ httpPort: '50051' }, {}))[0]!,
      /--grpc-port 50051: is --http-port as well/,
    );
    assert.match(
      problemsOf(() => loadConfig({ hedgeAfter: '1s', reportInterval: '600ms' }, {}))[0]!,
      /--hedge-after 1000ms: must be at least twice --report-interval/,
    );
    assert.doesNotThrow(() => loadConfig({ httpPort: '0', grpcPort: '0', hedgeAfter: '0s' }, {}));
  });

  it('demands keys on every bind but loopback, and there too when told', () => {
    assert.equal(loadConfig({}, {}).keysRequired, false);
    assert.equal(loadConfig({ auth: 'required' }, {}).keysRequired, true);
    for (const host of ['0.0.0.0', '::', '10.0.0.7', 'serve.example', '128.0.0.1', '127.0.0.1.example']) {
      assert.equal(loadConfig({ host }, {}).keysRequired, true, host);
    }
    for (const host of ['127.0.0.1', '127.8.8.8', '::1', 'localhost', '[::1]'])
      assert.equal(isLoopback(host), true);
  });

  it('derives flag and variable names from one name', () => {
    assert.equal(variableOf('routePrefixEntries'), 'SPOTLIGHT_ROUTE_PREFIX_ENTRIES');
  });

  it('reads durations, sizes, lists and hosts strictly', () => {
    assert.equal(loadConfig({ requestTimeout: '1.5s' }, {}).requestTimeout, 1500);
    for (const requestTimeout of ['10', '5d', '-1s', '10ms'])
      assert.equal(problemsOf(() => loadConfig({ requestTimeout }, {})).length, 1, requestTimeout);
    for (const host of ['localhost:80 ', 'a/b', '8080', ''])
      assert.equal(problemsOf(() => loadConfig({ host }, {})).length, 1, host);
    const tokens = loadConfig(
      {},
      { SPOTLIGHT_JOIN_TOKENS: ' aaaaaaaaaaaaaaaa, bbbbbbbbbbbbbbbb,' },
    ).joinTokens;
    assert.deepEqual(tokens, ['aaaaaaaaaaaaaaaa', 'bbbbbbbbbbbbbbbb']);
    assert.equal(problemsOf(() => loadConfig({ databaseUrl: 'mysql://x' }, {})).length, 1);
  });
});
