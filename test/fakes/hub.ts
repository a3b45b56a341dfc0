// A local stand-in of the Hugging Face hub: model info, tree listing and file contents with Range, as huggingface.co answers.
// Tests tell it what goes wrong: cut a transfer, serve other bytes than listed, ignore ranges, ask for a token, fail for a while.
import { createHash } from 'node:crypto';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface FakeHubFile {
  readonly content: Buffer;
  /** Kept in LFS: listed by SHA-256, not by git's blob id. */
  readonly lfs: boolean;
}

export interface FakeHubFaults {
  /** Bytes of a file's content after which a connection is closed, once for each entry. */
  cuts: number[];
  /** Path of a file whose content is altered on its way. */
  corrupt: string | undefined;
  ignoreRanges: boolean;
  /** Requests answered by 503 before any is served. */
  unavailable: number;
  /** A token that requests must carry. */
  token: string | undefined;
}

export interface FileRequest {
  readonly path: string;
  /** First byte asked for. */
  readonly from: number;
}

export class FakeHub {
  readonly faults: FakeHubFaults = {
    cuts: [],
    corrupt: undefined,
    ignoreRanges: false,
    unavailable: 0,
    token: undefined,
  };
  /** Content requests so far, those that only ask for a size (bytes=0-0) left out. */
  readonly requests: FileRequest[] = [];
  private readonly files = new Map<string, FakeHubFile>();
  private readonly server: Server;

  private constructor(readonly repo: string) {
    this.server = createServer((request, response) => {
      this.answer(request, response);
    });
  }

  static async start(repo: string): Promise<FakeHub> {
    const hub = new FakeHub(repo);
    await new Promise<void>((resolve) => hub.server.listen(0, '127.0.0.1', resolve));
    return hub;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  /** Changes with any file: the commit that main names. */
  get commit(): string {
    const hash = createHash('sha1');
    for (const [path, { content }] of this.files) hash.update(path).update(content);
    return hash.digest('hex');
  }

  put(path: string, content: string | Buffer, lfs = false): void {
    this.files.set(path, { content: Buffer.from(content), lfs });
  }

  async close(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }

  private answer(request: IncomingMessage, response: ServerResponse): void {
    const path = decodeURIComponent(new URL(request.url ?? '/', this.url).pathname);
    if (this.faults.unavailable > 0) {
      this.faults.unavailable -= 1;
      sendJson(response, 503, { error: 'Service Unavailable' });
    } else if (
      this.faults.token !== undefined &&
      request.headers.authorization !== `Bearer ${this.faults.token}`
    ) {
      sendJson(response, 401, { error: 'Access to this model is restricted' });
    } else if ([`/api/models/${this.repo}`, `/api/models/${this.repo}/revision/main`].includes(path)) {
      sendJson(response, 200, this.info());
    } else if (path.startsWith(`/api/models/${this.repo}/tree/${this.commit}`)) {
      sendJson(response, 200, this.tree());
    } else {
      const name = path.replace(`/${this.repo}/resolve/${this.commit}/`, '');
      const file = this.files.get(name);
      if (file === undefined) sendJson(response, 404, { error: 'Repository not found' });
      else this.sendFile(name, file, request, response);
    }
  }

  private info(): object {
    return {
      _id: '0123456789abcdef01234567',
      id: this.repo,
      modelId: this.repo,
      private: false,
      gated: false,
      downloads: 1,
      likes: 1,
      lastModified: '2026-01-01T00:00:00.000Z',
      sha: this.commit,
    };
  }

  private tree(): object[] {
    return [...this.files].map(([path, { content, lfs }]) => {
      const pointer = `version https://git-lfs.github.com/spec/v1\noid sha256:${sha256(content)}\n`;
      const stored = lfs ? Buffer.from(pointer) : content;
      const oid = createHash('sha1').update(`blob ${stored.length}\0`).update(stored).digest('hex');
      const entry = { type: 'file', oid, size: content.length, path };
      return lfs
        ? { ...entry, lfs: { oid: sha256(content), size: content.length, pointerSize: stored.length } }
        : entry;
    });
  }

  private sendFile(
    name: string,
    file: FakeHubFile,
    request: IncomingMessage,
    response: ServerResponse,
  ): void {
    const size = file.content.length;
    const range = this.faults.ignoreRanges ? null : /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '');
    const from = Number(range?.[1] ?? 0);
    const to = Math.min(size, Number(range?.[2] ?? size - 1) + 1);
    const probe = request.headers.range === 'bytes=0-0';
    if (!probe) this.requests.push({ path: name, from });
    const content = Buffer.from(file.content);
    if (name === this.faults.corrupt) content[content.length - 1] = (content.at(-1) ?? 0) ^ 1;
    const body = content.subarray(from, to);
    response.writeHead(range === null && !probe ? 200 : 206, {
      'Content-Type': 'application/octet-stream',
      'Content-Length': body.length,
      'Content-Range': `bytes ${from}-${to - 1}/${size}`,
      ETag: `"${file.lfs ? sha256(file.content) : 'git'}"`,
    });
    const cut = probe ? undefined : this.faults.cuts.shift();
    if (cut === undefined) response.end(body);
    else response.write(body.subarray(0, cut), () => response.destroy());
  }
}

function sha256(content: Buffer): string {
  return createHash('sha256').update(content).digest('hex');
}

function sendJson(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { 'Content-Type': 'application/json' });
  response.end(JSON.stringify(body));
}
