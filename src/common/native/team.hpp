// Threads that work on one call together. The host says how to start them: a framework lends its own.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>

#include "recurrent.h"

namespace RNN_LEVEL {

// A place where all wait for all.
class Barrier {
  public:
    void wait(int count) {
        if (count == 1) return;
        const int phase = phase_.load(std::memory_order_acquire);
        if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == count) {
            arrived_.store(0, std::memory_order_relaxed);
            phase_.store(phase + 1, std::memory_order_release);
            return;
        }
        for (int spins = 0; phase_.load(std::memory_order_acquire) == phase; ++spins)
            if (spins > 256) std::this_thread::yield();  // its processor may be what the others wait for
            else pause();
    }

  private:
    static void pause() {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
    }
    alignas(64) std::atomic<int> arrived_{0};
    alignas(64) std::atomic<int> phase_{0};
};

// One thread's view of a team.
struct Member {
    int id, count;
    Barrier* barrier;

    void wait() const { barrier->wait(count); }

    // Calls `work(first, stop)` for this member's share of `tasks` tasks: always the same, so that its data stay in its cache.
    template <class Work> void share(int64_t tasks, Work work) const {
        const int64_t first = tasks * id / count, stop = tasks * (id + 1) / count;
        if (first < stop) work(first, stop);
    }
};

// Runs `work(member)` in a team of `threads`, or of as many as the host lends.
template <class Work> void in_team(const rnn_host* host, int threads, Work work) {
    Barrier barrier;
    if (threads <= 1 || host == nullptr || host->parallel == nullptr) return work(Member{0, 1, &barrier});
    struct Context {
        Work* work;
        Barrier* barrier;
        const rnn_host* host;
    } context{&work, &barrier, host};
    host->parallel(
        [](void* given) {
            const Context& c = *static_cast<Context*>(given);
            (*c.work)(Member{c.host->id(), c.host->count(), c.barrier});
        },
        &context, static_cast<unsigned>(threads), 0);
}

}  // namespace RNN_LEVEL
