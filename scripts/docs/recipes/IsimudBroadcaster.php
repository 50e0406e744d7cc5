<?php
// A broadcaster for Laravel: events that implement ShouldBroadcast are published
// to isimud. The channel is the topic, broadcastAs() the type of the event.
//
// In a service provider's boot():
//
//     Broadcast::extend('isimud', fn ($app, $config) => new IsimudBroadcaster($app[Factory::class], $config));
//
// config/broadcasting.php, under 'connections' (and BROADCAST_DRIVER=isimud, Laravel 11: BROADCAST_CONNECTION):
//
//     'isimud' => ['driver' => 'isimud', 'url' => env('ISIMUD_URL', 'http://127.0.0.1:3000'),
//                  'publisher' => env('ISIMUD_PUBLISHER', 'news'), 'password' => env('ISIMUD_PASSWORD')],
//
// Who may subscribe is asked by isimud, of AUTH_URL, not here.

namespace App\Broadcasting;

use Illuminate\Broadcasting\Broadcasters\Broadcaster;
use Illuminate\Broadcasting\BroadcastException;
use Illuminate\Http\Client\ConnectionException;
use Illuminate\Http\Client\Factory;
use Illuminate\Support\Str;

class IsimudBroadcaster extends Broadcaster
{
    public function __construct(private Factory $http, private array $config)
    {
    }

    public function broadcast(array $channels, $event, array $payload = [])
    {
        unset($payload['socket']);
        $batch = array_map(fn ($channel) => [
            'topic' => (string) $channel,
            'event' => Str::limit($event, 128, ''),
            'data' => (object) $payload,
        ], array_values($channels));
        try {
            // The key makes it one publication, however often it is sent.
            $answer = $this->http->withBasicAuth($this->config['publisher'], $this->config['password'])
                ->withHeaders(['Idempotency-Key' => (string) Str::uuid()])
                ->timeout(5)->retry(3, 200, fn ($error) => $error instanceof ConnectionException)
                ->post($this->config['url'] . '/pub', $batch);
        } catch (\Exception $error) {
            throw new BroadcastException('isimud: ' . $error->getMessage());
        }
        if (! $answer->successful()) {
            throw new BroadcastException("isimud answers {$answer->status()} {$answer->body()}");
        }
    }

    public function auth($request)
    {
        return true;
    }

    public function validAuthenticationResponse($request, $result)
    {
        return $result;
    }
}
