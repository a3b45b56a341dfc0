// Preloaded into a worker that the CLI starts (node --import): ends it when the CLI is gone, however it went.
// Workers started by hand or by Kubernetes do not load this; those outlive their control plane and rejoin it.
process.once('disconnect', () => {
  process.kill(process.pid, 'SIGTERM');
});
// The channel is watched, not waited for: it must not keep a worker alive that has nothing else to do.
process.channel?.unref();
