// SPDX-License-Identifier: AGPL-3.0-or-later
pragma solidity ^0.8.28;

import {IUniswapV2Pair} from "../interfaces/IUniswapV2Pair.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

/// @title The average price that a Uniswap v2 pair gave over the last WINDOW or longer.
/// @notice A pair sums up its price over time, each price weighted with the seconds it stood. Trades of one transaction
/// stand for no second, so they don't count: to move the average, a wrong price has to be held against all other
/// traders. Two sums are remembered, the later one at least WINDOW after the earlier one; the average is from the later
/// one that is at least WINDOW old to now.
/// @dev The price averaged is tokens per stablecoin: pushing a token's price up for a moment takes little from that
/// average, in which times of a low price weigh most.
library PairPrice {
    /// @notice Seconds.
    uint256 internal constant WINDOW = 30 minutes;

    /// @dev Uniswap's fixed point: 112 bits behind the point.
    uint256 private constant ONE = 2 ** 112;

    /// @dev `laterAt` is never 0; `earlierAt` is until the second update. Times are Unix seconds, sums as
    /// IUniswapV2Pair.price0CumulativeLast.
    struct Source {
        address pair;
        uint40 earlierAt;
        uint40 laterAt;
        bool tokenIsToken0;
        uint256 earlierSum;
        uint256 laterSum;
    }

    /// @dev What the pair holds, in smallest units, and the sum of tokens per stablecoin up to now.
    struct Reserves {
        uint112 token;
        uint112 stable;
        uint256 sum;
    }

    /// @notice Begins to watch a pair. False if it is not one of these two tokens.
    function open(Source storage source, address pair, address token, address stable) internal returns (bool) {
        (address token0, address token1) = (IUniswapV2Pair(pair).token0(), IUniswapV2Pair(pair).token1());
        bool tokenIsToken0 = token0 == token && token1 == stable;
        if (!tokenIsToken0 && !(token0 == stable && token1 == token)) return false;
        source.pair = pair;
        source.tokenIsToken0 = tokenIsToken0;
        source.laterAt = uint40(block.timestamp);
        source.laterSum = read(source).sum;
        return true;
    }

    /// @notice Remembers the present sum in place of the earlier one, if the later one is WINDOW old.
    function update(Source storage source) internal {
        if (block.timestamp < nextUpdateAt(source)) return;
        source.earlierAt = source.laterAt;
        source.earlierSum = source.laterSum;
        source.laterAt = uint40(block.timestamp);
        source.laterSum = read(source).sum;
    }

    /// @notice When the present sum may be remembered again.
    function nextUpdateAt(Source storage source) internal view returns (uint256) {
        return source.laterAt + WINDOW;
    }

    /// @notice The sum that averages begin from, and when it was taken: 0 if none is WINDOW old yet.
    function observation(Source storage source) internal view returns (uint256 since, uint256 sum) {
        if (block.timestamp >= nextUpdateAt(source)) return (source.laterAt, source.laterSum);
        return (source.earlierAt, source.earlierSum);
    }

    /// @notice What the pair holds and has summed up.
    function read(Source storage source) internal view returns (Reserves memory reserves) {
        IUniswapV2Pair pair = IUniswapV2Pair(source.pair);
        bool tokenIsToken0 = source.tokenIsToken0;
        (uint112 reserve0, uint112 reserve1, uint32 lastTradeAt) = pair.getReserves();
        (reserves.token, reserves.stable) = tokenIsToken0 ? (reserve0, reserve1) : (reserve1, reserve0);
        reserves.sum = tokenIsToken0 ? pair.price1CumulativeLast() : pair.price0CumulativeLast();
        if (reserves.stable == 0) return reserves;
        unchecked {
            // Sum and time overflow on purpose, as in the pair, which counts seconds modulo 2^32.
            uint32 elapsed = uint32(block.timestamp) - lastTradeAt;
            reserves.sum += uint256(reserves.token) * ONE / reserves.stable * elapsed;
        }
    }

    /// @notice amount * (average of tokens per stablecoin) / unit, rounded up. There must be an observation.
    function average(Source storage source, Reserves memory reserves, uint256 amount, uint256 unit)
        internal
        view
        returns (uint256)
    {
        (uint256 since, uint256 sum) = observation(source);
        unchecked {
            uint256 difference = reserves.sum - sum;
            return Math.mulDiv(amount, difference, (block.timestamp - since) * ONE * unit, Math.Rounding.Ceil);
        }
    }
}
