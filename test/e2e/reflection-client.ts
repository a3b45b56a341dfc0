// Learns a service from a running server by grpc.reflection.v1, as grpcurl does: the test's client shares no file with it.
import type { ClientDuplexStream, ServiceError } from '@grpc/grpc-js';
import { Client, credentials } from '@grpc/grpc-js';
import type { MethodDefinition, PackageDefinition } from '@grpc/proto-loader';
import { loadFileDescriptorSetFromBuffer, loadSync } from '@grpc/proto-loader';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

interface Answer {
  readonly fileDescriptorResponse?: { readonly fileDescriptorProto: readonly Buffer[] };
  readonly errorResponse?: { readonly errorMessage: string };
}

const METHOD = 'grpc.reflection.v1.ServerReflection';

function infoMethod(): MethodDefinition<object, Answer> {
  const home = dirname(createRequire(import.meta.url).resolve('@grpc/reflection/package.json'));
  const service = loadSync(join(home, 'build/proto/grpc/reflection/v1/reflection.proto'))[METHOD];
  const method = (service as Record<string, MethodDefinition<object, Answer>> | undefined)?.[
    'ServerReflectionInfo'
  ];
  if (method === undefined) throw new Error('the reflection package has no v1 proto');
  return method;
}

/** The file that declares `symbol` and all it imports, as a client library takes definitions; int64 as strings. */
export async function reflect(address: string, symbol: string): Promise<PackageDefinition> {
  const client = new Client(address, credentials.createInsecure());
  try {
    const method = infoMethod();
    const call: ClientDuplexStream<object, Answer> = client.makeBidiStreamRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
    );
    const answer = await new Promise<Answer>((resolve, reject) => {
      call.once('data', resolve);
      call.once('error', (error: ServiceError) => {
        reject(error);
      });
      call.write({ fileContainingSymbol: symbol });
    });
    call.end();
    const files = answer.fileDescriptorResponse?.fileDescriptorProto;
    if (files === undefined) throw new Error(answer.errorResponse?.errorMessage ?? 'reflection gave no file');
    return loadFileDescriptorSetFromBuffer(descriptorSet(files), {
      keepCase: true,
      longs: String,
      enums: String,
      defaults: true,
    });
  } finally {
    client.close();
  }
}

/** A FileDescriptorSet is its files as field 1, each with its length before it. */
function descriptorSet(files: readonly Buffer[]): Buffer {
  return Buffer.concat(files.flatMap((file) => [Buffer.of(0x0a), varint(file.length), file]));
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest > 0x7f; rest >>>= 7) bytes.push((rest & 0x7f) | 0x80);
  return Buffer.from([...bytes, rest]);
}
