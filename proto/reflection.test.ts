// Reflection as a plain client sees it: services listed by name, and a file descriptor that names the service's methods.
import assert from 'node:assert/strict';
import type { ServiceError } from '@grpc/grpc-js';
import { credentials, loadPackageDefinition, Server, ServerCredentials } from '@grpc/grpc-js';
import { fromJSON } from '@grpc/proto-loader';
import { addReflection, packageDefinition } from './reflection.js';

interface ReflectionReply {
  listServicesResponse?: { service: { name: string }[] };
  fileDescriptorResponse?: { fileDescriptorProto: Buffer[] };
}
interface ReflectionCall {
  on(event: 'data', listener: (reply: ReflectionReply) => void): void;
  on(event: 'error', listener: (error: ServiceError) => void): void;
  write(request: object): void;
  end(): void;
}

// The part of grpc/reflection/v1/reflection.proto that the questions below need, as a client without our package has it.
const reflectionV1 = fromJSON({
  nested: {
    grpc: {
      nested: {
        reflection: {
          nested: {
            v1: {
              nested: {
                ServerReflection: {
                  methods: {
                    ServerReflectionInfo: {
                      requestType: 'Request',
                      requestStream: true,
                      responseType: 'Reply',
                      responseStream: true,
                      comment: '',
                    },
                  },
                },
                Request: {
                  fields: {
                    fileContainingSymbol: { type: 'string', id: 4 },
                    listServices: { type: 'string', id: 7 },
                  },
                },
                Reply: {
                  fields: {
                    fileDescriptorResponse: { type: 'Files', id: 4 },
                    listServicesResponse: { type: 'Services', id: 6 },
                  },
                },
                Files: { fields: { fileDescriptorProto: { rule: 'repeated', type: 'bytes', id: 1 } } },
                Services: { fields: { service: { rule: 'repeated', type: 'Service', id: 1 } } },
                Service: { fields: { name: { type: 'string', id: 1 } } },
              },
            },
          },
        },
      },
    },
  },
});

describe('reflection', () => {
  const server = new Server();
  let call: ReflectionCall;
  let close: () => void;

  before(async () => {
    addReflection(server, ['spotlight.v1.Generation']);
    const port = await new Promise<number>((resolve, reject) => {
      server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) => {
        if (error) reject(error);
        else resolve(bound);
      });
    });
    const tree = loadPackageDefinition(reflectionV1) as unknown as {
      grpc: {
        reflection: {
          v1: {
            ServerReflection: new (
              address: string,
              creds: unknown,
            ) => { ServerReflectionInfo(): ReflectionCall; close(): void };
          };
        };
      };
    };
    const client = new tree.grpc.reflection.v1.ServerReflection(
      `127.0.0.1:${port}`,
      credentials.createInsecure(),
    );
    call = client.ServerReflectionInfo();
    close = () => {
      client.close();
    };
  });

  after(() => {
    call.end();
    close();
    server.forceShutdown();
  });

  function ask(request: object): Promise<ReflectionReply> {
    return new Promise((resolve, reject) => {
      call.on('data', resolve);
      call.on('error', reject);
      call.write(request);
    });
  }

  it('lists the services asked for, and health, and no other', async () => {
    const reply = await ask({ listServices: '' });
    const names = reply.listServicesResponse?.service.map((service) => service.name).sort();
    assert.deepEqual(names, ['grpc.health.v1.Health', 'spotlight.v1.Generation']);
  });

  it('serves the file that declares a service', async () => {
    const reply = await ask({ fileContainingSymbol: 'spotlight.v1.Generation' });
    const files = reply.fileDescriptorResponse?.fileDescriptorProto ?? [];
    assert.ok(
      files.some((file) => file.includes('spotlight/v1/generation.proto') && file.includes('Tokenize')),
    );
  });

  it('knows every service of the package', () => {
    const definition = packageDefinition();
    for (const name of ['Generation', 'Worker', 'Fleet'])
      assert.ok(`spotlight.v1.${name}` in definition, name);
  });
});
