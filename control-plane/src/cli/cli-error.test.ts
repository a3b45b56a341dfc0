import assert from 'node:assert/strict';
import { status } from '@grpc/grpc-js';
import { CliError, describeFailure } from './cli-error.js';

describe('describeFailure', () => {
  it('says in one line what to do about known causes', () => {
    const cases: [Error, RegExp][] = [
      [new CliError('Say it so.'), /^Say it so\.$/],
      [Object.assign(new Error('x'), { code: 'ENOENT', path: '/a/b' }), /^\/a\/b does not exist/],
      [Object.assign(new Error('x'), { code: 'ENOSPC' }), /No space left/],
      [Object.assign(new Error('x'), { code: 'EADDRINUSE', port: 8000 }), /Port 8000 .*--http-port/],
      [Object.assign(new Error('x'), { code: 'EACCES', port: 80 }), /port 80.*above 1023/],
      [
        Object.assign(new Error('x'), { code: status.UNAVAILABLE, details: 'No connection' }),
        /^No connection\. Is the server running/,
      ],
      [
        Object.assign(new Error('x'), { code: status.INVALID_ARGUMENT, details: 'max_tokens must be' }),
        /^max_tokens/,
      ],
    ];
    for (const [error, line] of cases) {
      const said = describeFailure(error);
      assert.match(said ?? '', line);
      assert.ok(!said?.includes('\n'));
    }
  });

  it('leaves a bug its stack', () => {
    assert.equal(describeFailure(new TypeError('x is not a function')), undefined);
    assert.equal(describeFailure('a string'), undefined);
  });
});
