// Server reflection for the control plane and the worker, from the descriptor set made at build.
// ts-proto's service definitions carry no descriptors, so reflection reads the raw FileDescriptorSet instead of .proto files.
import { readFileSync } from 'node:fs';
import type { Server } from '@grpc/grpc-js';
import type { PackageDefinition } from '@grpc/proto-loader';
import { loadFileDescriptorSetFromBuffer, loadSync } from '@grpc/proto-loader';
import { ReflectionService } from '@grpc/reflection';
import { protoPath as healthProto } from 'grpc-health-check';

const HEALTH = 'grpc.health.v1.Health';

/** Every message and service of spotlight.v1 and grpc.health.v1, with the file descriptors that reflection needs. */
export function packageDefinition(): PackageDefinition {
  const descriptors = readFileSync(new URL('../gen/descriptor.binpb', import.meta.url));
  return { ...loadFileDescriptorSetFromBuffer(descriptors), ...loadSync(healthProto) };
}

/**
 * Adds reflection (v1 and v1alpha) to a server that serves grpc.health.v1 and the services named.
 * @param services full names, such as "spotlight.v1.Generation"; the others of the package stay unlisted
 */
export function addReflection(server: Pick<Server, 'addService'>, services: readonly string[]): void {
  new ReflectionService(packageDefinition(), { services: [...services, HEALTH] }).addToServer(server);
}
