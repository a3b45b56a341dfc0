// The command as a user runs it: help without loading anything heavy, and one line with the right status for each mistake.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const MAIN = fileURLToPath(new URL('./main.js', import.meta.url));

function spotlight(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(process.execPath, [MAIN, ...args], { encoding: 'utf8', input: '', timeout: 60_000 });
}

describe('spotlight', () => {
  it('lists its commands, and the flags of each with their variables', () => {
    const help = spotlight('--help');
    assert.equal(help.status, 0);
    for (const command of ['serve', 'worker', 'generate', 'train', 'eval', 'artifact', 'rollout', 'bench']) {
      assert.match(help.stdout, new RegExp(`^  ${command}\\b`, 'm'));
    }
    const serve = spotlight('serve', '--help').stdout;
    for (const word of [
      '--http-port',
      '--grpc-port',
      '--metrics-port',
      '--workers',
      '--model',
      'SPOTLIGHT_ADMIN_KEY',
    ]) {
      assert.ok(serve.includes(word), word);
    }
    assert.ok(!serve.includes('--admin-key'), 'a command line is public on its machine');
  });

  it('ends with status 2 and the flag named for a wrong command line', () => {
    for (const [args, named] of [
      [['serve', '--http-port', 'eighty'], '--http-port'],
      [['serve', '--workers', '-1'], '--workers'],
      [['serve', '--nonsense'], '--nonsense'],
      [['serve', 'mymodel'], 'mymodel'],
      [['generate', 'x', '--top-p', '7'], '--top-p'],
      [['generate', 'x', '--url', 'nowhere'], '--url'],
      [['train', '--steps', 'many'], '--steps'],
      [['train', '--nonsense'], '--nonsense'],
      [['fly'], 'fly'],
    ] as const) {
      const { status, stderr } = spotlight(...args);
      assert.equal(status, 2, args.join(' '));
      assert.ok(stderr.includes(named), stderr);
      assert.ok(!/^\s+at /m.test(stderr), `a stack is no message: ${stderr}`);
    }
  });

  it('ends with status 1 and one line for what is missing or not there', async () => {
    const missing = spotlight('generate', '--file', '/nowhere/prompt.txt');
    assert.equal(missing.status, 1);
    assert.match(missing.stderr, /^spotlight: \/nowhere\/prompt.txt does not exist/);

    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    await new Promise((resolve) => server.close(resolve));
    const nobody = spotlight('generate', 'x', '--url', `127.0.0.1:${port}`);
    assert.equal(nobody.status, 1);
    assert.match(nobody.stderr, /Is the server running\?/);
  });

  it('says that a port is taken', async () => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const folder = mkdtempSync(join(tmpdir(), 'spotlight-cli-'));
    const { status, stderr } = spotlight(
      ...[
        'serve',
        '--workers',
        '0',
        '--http-port',
        String(port),
        '--grpc-port',
        '0',
        '--log-level',
        'silent',
      ],
      ...['--data', join(folder, 'data')],
    );
    server.close();
    rmSync(folder, { recursive: true, force: true });
    assert.equal(status, 1);
    assert.match(stderr, new RegExp(`port 127.0.0.1:${port} is in use; .*--http-port`));
  });
}).timeout(120_000);
