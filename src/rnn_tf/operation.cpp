// The kernels as operations of TensorFlow's: forward, backward, and from the latter's ∂L/∂a_t the gradient of the inputs, which is
// an operation of its own so that a graph leaves it out where nobody asks for it. There is no arithmetic here: what is called
// comes from the library of kernels, whose addresses `rnn_attach` is given once.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <memory>
#include <numeric>
#include <thread>
#include <vector>
#if defined(__linux__)
#include <sched.h>
#endif

#include "absl/strings/str_cat.h"
#include "recurrent.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace {

using tensorflow::OpInputList;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::OpOutputList;
using tensorflow::Tensor;
using tensorflow::TensorShape;

template <class... Words> absl::Status invalid(const Words&... words) { return absl::InvalidArgumentError(absl::StrCat(words...)); }

struct Kernels {
    int (*forward)(const rnn_call*);
    int (*backward)(const rnn_call*);
    int (*input_gradient)(const rnn_call*);
    int32_t (*units)(int32_t, int32_t);
    int32_t (*gates)(int32_t);
    int32_t (*keeps)(int32_t);
} kernels = {};

// Threads of TensorFlow's pool for one call. A pool does not promise that all work at once, and a call's members wait for each
// other: so whoever has come in time is a member, and who comes later goes away again. Who is woken on the caller's processor, of
// which two cannot use more than one, moves to another.
class Team {
  public:
    static void parallel(void (*body)(void*), void* context, unsigned threads, unsigned) {
        auto gate = std::make_shared<Gate>();
        for (unsigned i = 1; i < threads; ++i)
            pool->Schedule([gate, body, context] {
                if (!gate->open()) return;
                const Elsewhere elsewhere(gate->processor);
                const int number = elsewhere.is_true() ? gate->enter() : 0;
                if (number == 0) return;
                while ((count = gate->count.load(std::memory_order_acquire)) == 0) std::this_thread::yield();
                id = number;
                body(context);
                gate->left.fetch_add(1, std::memory_order_release);
            });
        const auto until = std::chrono::steady_clock::now() + patience;
        while (gate->arrived() < static_cast<int>(threads) && std::chrono::steady_clock::now() < until) std::this_thread::yield();
        id = 0, count = gate->close();
        const int members = count;
        gate->count.store(members, std::memory_order_release);
        body(context);
        while (gate->left.load(std::memory_order_acquire) < members - 1) std::this_thread::yield();
    }

    static thread_local tensorflow::thread::ThreadPool* pool;
    static thread_local std::chrono::microseconds patience;
    static thread_local int id, count;

  private:
    // Which processor runs this, −1 if that is not known.
    static int processor() {
#if defined(__linux__)
        return sched_getcpu();
#else
        return -1;
#endif
    }

    // While it lives this thread is not on the processor that is named, if that could be brought about.
    class Elsewhere {
      public:
        explicit Elsewhere(int number) : there_(processor() >= 0 && processor() == number) {
#if defined(__linux__)
            if (!there_ || sched_getaffinity(0, sizeof before_, &before_) != 0) return;
            cpu_set_t others = before_;
            CPU_CLR(number, &others);
            moved_ = CPU_COUNT(&others) > 0 && sched_setaffinity(0, sizeof others, &others) == 0;
#endif
        }
        ~Elsewhere() {
#if defined(__linux__)
            if (moved_) sched_setaffinity(0, sizeof before_, &before_);
#endif
        }
        bool is_true() const { return !there_ || moved_; }

      private:
        const bool there_;
        bool moved_ = false;
#if defined(__linux__)
        cpu_set_t before_;
#endif
    };

    struct Gate {
        static constexpr int closed = 1 << 20;
        std::atomic<int> state{1};  // how many have come, the caller first
        std::atomic<int> count{0}, left{0};
        const int processor = Team::processor();  // the caller's

        bool open() const { return state.load() < closed; }
        int enter() {
            int now = state.load();
            while (now < closed)
                if (state.compare_exchange_weak(now, now + 1)) return now;
            return 0;
        }
        int arrived() const { return state.load() % closed; }
        int close() { return state.fetch_add(closed); }
    };
};

thread_local tensorflow::thread::ThreadPool* Team::pool = nullptr;
thread_local std::chrono::microseconds Team::patience{0};
thread_local int Team::id = 0;
thread_local int Team::count = 1;

const rnn_host host = {Team::parallel, [] { return Team::id; }, [] { return Team::count; }};

// Which steps are valid: at the others a state stays as it is. The kernels are given the valid steps of each sequence one after the
// other: where they stand or, where there are gaps before or between them, brought together in front.
class Steps {
  public:
    Steps() = default;
    Steps(OpKernelContext* context, const Tensor& valid)
        : workers_(context->device()->tensorflow_cpu_worker_threads()), batch_(valid.dim_size(0)), time_(valid.dim_size(1)), count_(batch_ * time_) {
        const bool* is_valid = valid.flat<bool>().data();
        for (int64_t b = 0; b < batch_; ++b)
            for (int64_t t = 0, count = 0; t < time_; ++t) {
                gaps_ |= is_valid[b * time_ + t] && count < t;
                count_[b * time_ + t] = count += is_valid[b * time_ + t];
            }
    }

    bool gaps() const { return gaps_; }
    bool all_valid() const {
        for (int64_t b = 0; b < batch_; ++b)
            if (length(b) < time_) return false;
        return true;
    }
    // How many valid steps a sequence has, up to and with step t or in all.
    int64_t count(int64_t b, int64_t t) const { return t < 0 ? 0 : count_[b * time_ + t]; }
    int64_t length(int64_t b) const { return count(b, time_ - 1); }
    bool is_valid(int64_t b, int64_t t) const { return count(b, t) > count(b, t - 1); }

    // `to` has the valid steps of `from` in front. Rows are of `bytes` bytes each, (batch, time).
    void bring_together(const char* from, char* to, int64_t bytes) const {
        each_sequence(bytes, [=](int64_t b) {
            for (int64_t t = 0; t < time_; ++t)
                if (is_valid(b, t)) std::memcpy(row(to, b, count(b, t) - 1, bytes), row(from, b, t, bytes), bytes);
        });
    }
    // Puts the steps in front where they belong; at a skipped step stands the valid one before it or, without one, `initial`.
    void hold(char* rows, const char* initial, int64_t bytes) const {
        each_sequence(bytes, [=](int64_t b) {
            for (int64_t t = time_ - 1; t >= 0; --t) {
                const char* from = count(b, t) ? row(rows, b, count(b, t) - 1, bytes) : initial + b * bytes;
                if (from != row(rows, b, t, bytes)) std::memcpy(row(rows, b, t, bytes), from, bytes);
            }
        });
    }
    // Puts the steps in front where they belong; at a skipped step stand zeros.
    void spread(char* rows, int64_t bytes) const {
        each_sequence(bytes, [=](int64_t b) {
            for (int64_t t = time_ - 1; t >= 0; --t) {
                char* to = row(rows, b, t, bytes);
                if (!is_valid(b, t)) std::memset(to, 0, bytes);
                else if (count(b, t) - 1 < t) std::memcpy(to, row(rows, b, count(b, t) - 1, bytes), bytes);
            }
        });
    }
    // The derivative of `hold`: what a skipped step is given is the gradient of the state that it holds. `together` are the
    // valid steps in front, nullptr where they stand there anyway; what follows a sequence's last valid step is added to
    // `d_final`, and what comes before its first to `d_initial`.
    template <class Number> void gather(const Number* d, Number* together, Number* d_final, Number* d_initial, int64_t numbers) const {
        each_sequence(numbers * sizeof(Number), [=](int64_t b) {
            for (int64_t t = 0; t < time_; ++t) {
                const Number* from = d + (b * time_ + t) * numbers;
                const int64_t held = count(b, t), latest = (b * time_ + held - 1) * numbers;
                if (is_valid(b, t)) {
                    if (together) std::copy(from, from + numbers, together + latest);
                    continue;
                }
                Number* to = held == length(b) ? d_final + b * numbers : held == 0 ? d_initial + b * numbers : together + latest;
                for (int64_t i = 0; i < numbers; ++i) to[i] += from[i];
            }
        });
    }

  private:
    template <class Byte> Byte* row(Byte* rows, int64_t b, int64_t t, int64_t bytes) const { return rows + (b * time_ + t) * bytes; }
    template <class Body> void each_sequence(int64_t bytes, const Body& body) const {
        workers_->workers->ParallelFor(batch_, time_ * (bytes / 4 + 8), [&](int64_t begin, int64_t end) {
            for (int64_t b = begin; b < end; ++b) body(b);
        });
    }

    const tensorflow::DeviceBase::CpuWorkerThreads* workers_ = nullptr;
    int64_t batch_ = 0, time_ = 0;
    std::vector<int64_t> count_;
    bool gaps_ = false;
};

// What all three operations are given: x (batch, time, input), as are histories; the state, each (batch, hidden); the weights as
// Keras packs them; and which steps are valid, (batch, time), or nothing. All else is checked against them.
class Operation : public tensorflow::OpKernel {
  public:
    explicit Operation(OpKernelConstruction* context) : OpKernel(context) {
        OP_REQUIRES_OK(context, context->GetAttr("kernel", &kernel_));
        OP_REQUIRES_OK(context, context->GetAttr("places", &places_));
        OP_REQUIRES(context, kernels.forward != nullptr, absl::FailedPreconditionError("the library of kernels is not attached"));
        OP_REQUIRES(context, kernel_ >= RNN_SIMPLE_TANH && kernel_ <= RNN_GRU_V3, invalid("kernel: there is no ", kernel_));
        const int gates = kernel_ <= RNN_SIMPLE_RELU ? 1 : kernel_ == RNN_LSTM ? 4 : 3;
        bool right = static_cast<int>(places_.size()) == gates;
        for (int place : places_) right = right && place >= 0 && place < gates;
        OP_REQUIRES(context, right, invalid("places should be one of each of the ", gates, " gates"));
    }

  protected:
    // A call, and what it points to.
    struct Given {
        rnn_call call = {};
        std::vector<int64_t> sizes, order;
        OpInputList state, weights, valid;
        Steps steps;

        TensorShape final() const { return {call.batch, call.hidden}; }
        TensorShape history() const { return {call.batch, call.steps, call.hidden}; }
    };

    absl::Status take(OpKernelContext* context, Given* given) const {
        const Tensor& x = context->input(0);
        TF_RETURN_IF_ERROR(context->input_list("state", &given->state));
        TF_RETURN_IF_ERROR(context->input_list("weights", &given->weights));
        TF_RETURN_IF_ERROR(context->input_list("valid", &given->valid));
        const OpInputList &state = given->state, &weights = given->weights;
        if (x.dims() != 3) return invalid("x should have three axes, got ", x.shape().DebugString());
        rnn_call& call = given->call;
        const int64_t rows = places_.size();
        call.cell = kernel_, call.bytes = x.dtype() == tensorflow::DT_DOUBLE ? 8 : 4;
        call.batch = x.dim_size(0), call.steps = x.dim_size(1), call.input = x.dim_size(2);
        if (state.size() != (kernel_ == RNN_LSTM ? 2 : 1) || state[0].dims() != 2)
            return invalid("state should be a (batch, hidden) for each of the cell's states");
        call.hidden = state[0].dim_size(1);
        for (const Tensor& each : state) TF_RETURN_IF_ERROR(expect("state", each, given->final()));
        if (weights.size() != 2 && weights.size() != 3) return invalid("weights should be 2 or 3, got ", weights.size());
        const int64_t columns = rows * call.hidden;
        TF_RETURN_IF_ERROR(expect("kernel", weights[0], {call.input, columns}));
        TF_RETURN_IF_ERROR(expect("recurrent_kernel", weights[1], {call.hidden, columns}));
        if (weights.size() == 3)
            TF_RETURN_IF_ERROR(expect("bias", weights[2], kernel_ == RNN_GRU ? TensorShape({2, columns}) : TensorShape({columns})));
        std::copy(places_.begin(), places_.end(), call.places);
        call.W = matrix(weights[0]), call.R = matrix(weights[1]);
        for (int i = 0; i < state.size(); ++i) call.state[i] = sequence(state[i]);
        biases(weights.size() == 3 ? &weights[2] : nullptr, call, call.bias);
        if (given->valid.size()) {
            TF_RETURN_IF_ERROR(expect("valid", given->valid[0], {call.batch, call.steps}));
            given->steps = Steps(context, given->valid[0]);
            sort(given);
        }
        lend_threads(context, *given);
        return absl::OkStatus();
    }

    static absl::Status expect(const char* name, const Tensor& tensor, const TensorShape& shape) {
        if (tensor.shape() == shape) return absl::OkStatus();
        return invalid(name, " should be ", shape.DebugString(), ", got ", tensor.shape().DebugString());
    }
    static absl::Status expect(const char* name, const OpInputList& tensors, const TensorShape& shape) {
        for (const Tensor& each : tensors) TF_RETURN_IF_ERROR(expect(name, each, shape));
        return absl::OkStatus();
    }

    static rnn_rows sequence(const Tensor& tensor) {
        const int64_t numbers = tensor.dim_size(tensor.dims() - 1);
        return tensor.dims() == 2 ? rnn_rows{tensor.data(), 0, numbers} : rnn_rows{tensor.data(), numbers, tensor.dim_size(1) * numbers};
    }
    static char* bytes(const Tensor& tensor) { return static_cast<char*>(tensor.data()); }

    // A sequence's valid steps in front: the tensor itself, or a copy.
    static absl::Status together(OpKernelContext* context, const Given& given, const Tensor& tensor, Tensor* copy) {
        *copy = tensor;
        if (!given.steps.gaps()) return absl::OkStatus();
        TF_RETURN_IF_ERROR(context->allocate_temp(tensor.dtype(), tensor.shape(), copy));
        given.steps.bring_together(bytes(tensor), bytes(*copy), tensor.dim_size(2) * given.call.bytes);
        return absl::OkStatus();
    }
    static rnn_matrix matrix(const Tensor& tensor) { return {tensor.data(), 1, tensor.dim_size(1)}; }

    template <class Pointer> static void biases(const Tensor* tensor, const rnn_call& call, Pointer (&to)[2]) {
        if (tensor == nullptr) return;
        to[0] = tensor->data();
        if (tensor->dims() == 2) to[1] = static_cast<char*>(tensor->data()) + tensor->dim_size(1) * call.bytes;
    }

    // Gates, or their gradients, as bytes: they are for the kernels alone.
    int64_t gates(const rnn_call& call) const {
        const int64_t units = kernels.units(kernel_, call.bytes), rows = call.steps * call.batch;
        return (call.hidden + units - 1) / units * (rows | 1) * kernels.gates(kernel_) * units * call.bytes;
    }

    // What is kept for the backward pass as bytes: the gates, and behind them those states of every step of which there is no history.
    TensorShape kept(const rnn_call& call, int histories, int states) const {
        return {(kernels.keeps(kernel_) ? gates(call) : 0) + (states - histories) * call.steps * call.batch * call.hidden * call.bytes};
    }
    void attach(const Tensor& kept, int histories, int states, rnn_call& call) const {
        if (kernels.keeps(kernel_)) call.gates = kept.data();
        if (histories < states)
            call.history[1] = {static_cast<char*>(kept.data()) + gates(call), call.batch * call.hidden, call.hidden};
    }

    static void run(OpKernelContext* context, int (*function)(const rnn_call*), const rnn_call& call) {
        OP_REQUIRES(context, function(&call) == 0, absl::ResourceExhaustedError("the kernels should have memory to work in, got none"));
    }

    int32_t kernel_;

  private:
    // The longest sequence first, and how many have each step.
    static void sort(Given* given) {
        rnn_call& call = given->call;
        const Steps& steps = given->steps;
        if (steps.all_valid()) return;
        given->sizes.assign(call.steps, 0);
        given->order.resize(call.batch);
        std::iota(given->order.begin(), given->order.end(), 0);
        for (int64_t b = 0; b < call.batch; ++b)
            for (int64_t t = 0; t < steps.length(b); ++t) ++given->sizes[t];
        std::stable_sort(given->order.begin(), given->order.end(), [&](int64_t a, int64_t b) { return steps.length(a) > steps.length(b); });
        call.sizes = given->sizes.data(), call.order = given->order.data();
    }

    // Others' threads are waited for a twentieth of the time that the call may take, at 100 multiply-adds a nanosecond.
    static void lend_threads(OpKernelContext* context, Given& given) {
        rnn_call& call = given.call;
        const auto* workers = context->device()->tensorflow_cpu_worker_threads();
        call.threads = workers->num_threads, call.host = &host;
        Team::pool = workers->workers;
        const double rows = call.sizes ? std::accumulate(given.sizes.begin(), given.sizes.end(), 0.0) : 1.0 * call.steps * call.batch;
        const double products = rows * call.hidden * (call.input + call.hidden) * kernels.gates(call.cell);
        Team::patience = std::chrono::microseconds(static_cast<int64_t>(std::clamp(products / 100 / 1000 / 20, 50.0, 5000.0)));
    }

    std::vector<int32_t> places_;
};

class Forward : public Operation {
  public:
    explicit Forward(OpKernelConstruction* context) : Operation(context) {
        OP_REQUIRES_OK(context, context->GetAttr("keep", &keep_));
        OP_REQUIRES_OK(context, context->GetAttr("histories", &histories_));
    }

    void Compute(OpKernelContext* context) override {
        Given given;
        OP_REQUIRES_OK(context, take(context, &given));
        rnn_call& call = given.call;
        const int states = given.state.size();
        OP_REQUIRES(context, histories_ <= states, invalid("histories should be at most ", states, ", got ", histories_));
        Tensor x;
        OP_REQUIRES_OK(context, together(context, given, context->input(0), &x));
        call.x = sequence(x);
        OpOutputList history, final;
        OP_REQUIRES_OK(context, context->output_list("history", &history));
        OP_REQUIRES_OK(context, context->output_list("final", &final));
        for (int i = 0; i < states; ++i) {
            Tensor *each = nullptr, *last = nullptr;
            if (i < histories_) {
                OP_REQUIRES_OK(context, history.allocate(i, given.history(), &each));
                call.history[i] = sequence(*each);
            }
            OP_REQUIRES_OK(context, final.allocate(i, given.final(), &last));
            if (call.sizes || call.steps == 0)  // of a sequence without a step the final state is the initial one
                std::memcpy(last->data(), given.state[i].data(), last->TotalBytes());
            call.final[i] = sequence(*last);
        }
        Tensor* kept = nullptr;
        const TensorShape shape = keep_ ? this->kept(call, histories_, states) : TensorShape({0});
        OP_REQUIRES_OK(context, context->allocate_output(histories_ + states, shape, &kept));
        if (keep_) attach(*kept, histories_, states, call);
        run(context, kernels.forward, call);
        if (given.valid.size())
            for (int i = 0; i < histories_; ++i) given.steps.hold(bytes(*history[i]), bytes(given.state[i]), call.hidden * call.bytes);
    }

  private:
    bool keep_;
    int32_t histories_;
};

class Backward : public Operation {
  public:
    using Operation::Operation;

    void Compute(OpKernelContext* context) override {
        Given given;
        OP_REQUIRES_OK(context, take(context, &given));
        rnn_call& call = given.call;
        const int states = given.state.size();
        OpInputList history, d_history, d_final;
        OP_REQUIRES_OK(context, context->input_list("history", &history));
        OP_REQUIRES_OK(context, context->input_list("d_history", &d_history));
        OP_REQUIRES_OK(context, context->input_list("d_final", &d_final));
        const int histories = history.size();
        OP_REQUIRES(context, histories <= states, invalid("histories should be at most ", states, ", got ", histories));
        OP_REQUIRES_OK(context, expect("history", history, given.history()));
        OP_REQUIRES_OK(context, expect("d_history", d_history, given.history()));
        OP_REQUIRES_OK(context, expect("d_final", d_final, given.final()));
        const Tensor* kept = nullptr;
        OP_REQUIRES_OK(context, context->input("kept", &kept));
        OP_REQUIRES_OK(context, expect("kept", *kept, this->kept(call, histories, states)));
        attach(*kept, histories, states, call);
        Tensor x;
        OP_REQUIRES_OK(context, together(context, given, context->input(0), &x));
        call.x = sequence(x);

        // In the place of what was kept, if that is not needed again.
        Tensor* d_gates = nullptr;
        int place = -1;
        const bool in_place = kernels.keeps(kernel_) && kernel_ != RNN_GRU_V3;
        OP_REQUIRES_OK(context, context->forward_input_or_allocate_output(
                                    in_place ? std::vector<int>{context->num_inputs() - 1} : std::vector<int>{}, 0,
                                    in_place ? kept->shape() : TensorShape({gates(call)}), &d_gates, &place));
        call.d_gates = d_gates->data();

        OpOutputList d_state, d_weights;
        OP_REQUIRES_OK(context, context->output_list("d_state", &d_state));
        OP_REQUIRES_OK(context, context->output_list("d_weights", &d_weights));
        std::vector<Held> held(states);
        for (int i = 0; i < states; ++i) {
            Tensor* d = nullptr;
            OP_REQUIRES_OK(context, d_state.allocate(i, given.final(), &d));
            call.d_state[i] = sequence(*d);
            held[i].d_final = d_final[i];
            if (i < histories) {
                OP_REQUIRES_OK(context, together(context, given, history[i], &held[i].history));
                OP_REQUIRES_OK(context, gather(context, given, d_history[i], &held[i]));
                call.history[i] = sequence(held[i].history), call.d_history[i] = sequence(held[i].d_history);
            }
            call.d_final[i] = sequence(held[i].d_final);
        }
        std::vector<Tensor*> d(given.weights.size());
        for (int i = 0; i < given.weights.size(); ++i) OP_REQUIRES_OK(context, d_weights.allocate(i, given.weights[i].shape(), &d[i]));
        call.d_W = matrix(*d[0]), call.d_R = matrix(*d[1]);
        biases(d.size() == 3 ? d[2] : nullptr, call, call.d_bias);
        run(context, kernels.backward, call);
        for (int i = 0; given.steps.gaps() && i < histories; ++i)
            call.bytes == 8 ? add<double>(held[i].d_initial, d_state[i]) : add<float>(held[i].d_initial, d_state[i]);
    }

  private:
    // A history and its gradients as the kernels take them, and the gradient of the initial state where it is held.
    struct Held {
        Tensor history, d_history, d_final, d_initial;
    };

    static absl::Status gather(OpKernelContext* context, const Given& given, const Tensor& d_history, Held* held) {
        held->d_history = d_history;
        if (given.valid.size() == 0) return absl::OkStatus();
        const Tensor d_final = held->d_final;
        TF_RETURN_IF_ERROR(context->allocate_temp(d_final.dtype(), d_final.shape(), &held->d_final));
        std::memcpy(held->d_final.data(), d_final.data(), d_final.TotalBytes());
        if (given.steps.gaps()) {
            TF_RETURN_IF_ERROR(context->allocate_temp(d_history.dtype(), d_history.shape(), &held->d_history));
            TF_RETURN_IF_ERROR(context->allocate_temp(d_final.dtype(), d_final.shape(), &held->d_initial));
            std::memset(held->d_initial.data(), 0, d_final.TotalBytes());
        }
        given.call.bytes == 8 ? gather<double>(given, d_history, *held) : gather<float>(given, d_history, *held);
        return absl::OkStatus();
    }
    template <class Number> static void gather(const Given& given, const Tensor& d_history, const Held& held) {
        const bool gaps = given.steps.gaps();
        const auto numbers = [](const Tensor& tensor) { return static_cast<Number*>(tensor.data()); };
        given.steps.gather<Number>(numbers(d_history), gaps ? numbers(held.d_history) : nullptr, numbers(held.d_final),
                                   gaps ? numbers(held.d_initial) : nullptr, given.call.hidden);
    }
    template <class Number> static void add(const Tensor& from, Tensor* to) { to->flat<Number>() += from.flat<Number>(); }
};

class InputGradient : public Operation {
  public:
    using Operation::Operation;

    void Compute(OpKernelContext* context) override {
        Given given;
        OP_REQUIRES_OK(context, take(context, &given));
        const Tensor* d_gates = nullptr;
        OP_REQUIRES_OK(context, context->input("d_gates", &d_gates));
        OP_REQUIRES(context, d_gates->NumElements() >= gates(given.call),
                    invalid("d_gates should have ", gates(given.call), " bytes, got ", d_gates->NumElements()));
        Tensor* d_x = nullptr;
        OP_REQUIRES_OK(context, context->allocate_output(0, context->input(0).shape(), &d_x));
        given.call.d_gates = d_gates->data();
        given.call.d_x = sequence(*d_x);
        run(context, kernels.input_gradient, given.call);
        if (given.valid.size()) given.steps.spread(bytes(*d_x), given.call.input * given.call.bytes);
    }
};

using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

absl::Status shapes_forward(InferenceContext* c) {
    int states, histories;
    TF_RETURN_IF_ERROR(c->GetAttr("states", &states));
    TF_RETURN_IF_ERROR(c->GetAttr("histories", &histories));
    ShapeHandle x, h;
    TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 3, &x));
    TF_RETURN_IF_ERROR(c->WithRank(c->input(1), 2, &h));
    DimensionHandle batch;
    TF_RETURN_IF_ERROR(c->Merge(c->Dim(x, 0), c->Dim(h, 0), &batch));
    for (int i = 0; i < histories; ++i) c->set_output(i, c->MakeShape({batch, c->Dim(x, 1), c->Dim(h, 1)}));
    for (int i = 0; i < states; ++i) c->set_output(histories + i, c->MakeShape({batch, c->Dim(h, 1)}));
    c->set_output(histories + states, c->UnknownShapeOfRank(1));
    return absl::OkStatus();
}

absl::Status shapes_backward(InferenceContext* c) {
    int states, packed;
    TF_RETURN_IF_ERROR(c->GetAttr("states", &states));
    TF_RETURN_IF_ERROR(c->GetAttr("packed", &packed));
    c->set_output(0, c->UnknownShapeOfRank(1));
    for (int i = 1; i <= states + packed; ++i) c->set_output(i, c->input(i));
    return absl::OkStatus();
}

absl::Status shapes_input_gradient(InferenceContext* c) {
    c->set_output(0, c->input(0));
    return absl::OkStatus();
}

#define GIVEN(op)                       \
    op.Input("x: T")                    \
        .Input("state: states * T")     \
        .Input("weights: packed * T")   \
        .Input("valid: masked * bool")  \
        .Attr("T: {float, double}")     \
        .Attr("states: int >= 1")       \
        .Attr("packed: int >= 2")       \
        .Attr("masked: int >= 0")       \
        .Attr("kernel: int")            \
        .Attr("places: list(int)")

GIVEN(REGISTER_OP("RnnParity>Forward"))
    .Attr("histories: int >= 1")
    .Attr("keep: bool")
    .Output("history: histories * T")
    .Output("final: states * T")
    .Output("kept: uint8")
    .SetShapeFn(shapes_forward);

GIVEN(REGISTER_OP("RnnParity>Backward"))
    .Input("history: histories * T")
    .Input("d_history: histories * T")
    .Input("d_final: states * T")
    .Input("kept: uint8")
    .Attr("histories: int >= 1")
    .Output("d_gates: uint8")
    .Output("d_state: states * T")
    .Output("d_weights: packed * T")
    .SetShapeFn(shapes_backward);

// What it does not compute from it is given for its own derivative.
GIVEN(REGISTER_OP("RnnParity>InputGradient"))
    .Input("d_history: histories * T")
    .Input("d_final: states * T")
    .Input("d_gates: uint8")
    .Attr("histories: int >= 1")
    .Output("d_x: T")
    .SetShapeFn(shapes_input_gradient);

#define KERNEL(name, type) REGISTER_KERNEL_BUILDER(Name("RnnParity>" #name).Device(tensorflow::DEVICE_CPU).TypeConstraint<type>("T"), name)
KERNEL(Forward, float);
KERNEL(Forward, double);
KERNEL(Backward, float);
KERNEL(Backward, double);
KERNEL(InputGradient, float);
KERNEL(InputGradient, double);

}  // namespace

extern "C" void rnn_attach(decltype(Kernels::forward) forward, decltype(Kernels::backward) backward,
                           decltype(Kernels::input_gradient) input_gradient, decltype(Kernels::units) units,
                           decltype(Kernels::gates) gates, decltype(Kernels::keeps) keeps) {
    kernels = {forward, backward, input_gradient, units, gates, keeps};
}
